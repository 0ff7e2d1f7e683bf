"""What a user writes down about a task of their own, in YAML, and all that can be wrong with it.

Every complaint names the file and the key. Paths in the file are relative to it. Reads no rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from layerbridge.errors import DataError
from layerbridge.tasks import records
from layerbridge.tasks.labels import Labels
from layerbridge.tasks.task import rename_columns, template_columns

_KEYS = ("name", "description", "template", "labels", "columns", "files", "parallel", "licence")
_SPLITS = ("train", "validation", "test")
# The result file is called after the task.
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_QUOTES = "put it in quotes; YAML takes no, yes, on and off for truth values"


@dataclass(frozen=True)
class TaskFile:
    """A task as its file describes it.

    Attributes:
        name: what results call it.
        description: one sentence.
        licence: of the data.
        template: the encoder's text.
        file_template: the same with the names that the columns have in the files.
        target: the column with the label.
        labels: and their words.
        parallel: whether row n is the same item in every language.
        sources: by split and language; training and validation rows are ``en``.
    """

    name: str
    description: str
    licence: str
    template: str
    file_template: str
    target: str
    labels: Labels
    parallel: bool
    sources: Mapping[tuple[str, str], str]


def read(path: str | Path) -> TaskFile:
    """The task in a YAML file.

    Raises:
        DataError: the file is missing, is no YAML, or a key in it does not fit.
    """
    return _Reader(Path(path)).task()


class _Reader:
    """Takes the keys of one file, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(
                f"the task file {path} cannot be read ({error.strerror or error})",
                hint="check the path",
            ) from None
        except UnicodeDecodeError:
            raise DataError(f"the task file {path} is not UTF-8") from None
        except yaml.YAMLError as error:
            raise DataError(f"the task file {path} is not YAML: {error}") from None
        if not isinstance(content, dict):
            raise DataError(f"the task file {path} has no keys", allowed=_KEYS)
        for key in content:
            if key not in _KEYS:
                raise DataError(f"{path}: there is no key {key!r}", allowed=_KEYS)
        self.content = content

    def task(self) -> TaskFile:
        name = self.text("name")
        if not _NAME.fullmatch(name):
            raise self.wrong("name", name, "small letters, digits, '-', '_' and '.'")
        template = self.text("template")
        columns, target = self.columns(template)
        file_template = rename_columns(template, columns)
        if target in template_columns(file_template):
            raise self.wrong("template", template, f"text without {target!r}, which is the label")
        parallel = self.content.get("parallel", False)
        if not isinstance(parallel, bool):
            raise self.wrong("parallel", parallel, "true or false")
        return TaskFile(
            name=name,
            description=self.text("description", f"The task of {self.path.name}."),
            licence=self.text("licence", "not stated"),
            template=template,
            file_template=file_template,
            target=target,
            labels=self.labels(),
            parallel=parallel,
            sources=self.sources(),
        )

    def text(self, key: str, default: str | None = None) -> str:
        value = self.content.get(key, default)
        if value is None:
            raise DataError(f"{self.path} has no {key}", hint=f"add a line {key}: …")
        return self.word(key, value)

    def word(self, key: str, value: object) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, value, "text")
        return value

    def columns(self, template: str) -> tuple[dict[str, str], str]:
        """The columns that are called otherwise in the files, and the label's."""
        try:
            named = template_columns(template)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from None
        if not named:
            raise self.wrong("template", template, "text with columns in braces")
        given = self.mapping("columns", self.content.get("columns") or {})
        for name in given:
            if name not in (*named, "label"):
                raise DataError(
                    f"{self.path}: columns.{name} is not in the template", allowed=(*named, "label")
                )
        columns = {name: self.word(f"columns.{name}", value) for name, value in given.items()}
        target = columns.get("label", "label")
        return {name: column for name, column in columns.items() if name in named}, target

    def labels(self) -> Labels:
        given = self.content.get("labels")
        if isinstance(given, list):
            words = {self.word("labels", item): item for item in given}
        elif isinstance(given, dict):
            words = {
                self.key("labels", raw): self.word(f"labels.{raw}", word)
                for raw, word in given.items()
            }
        else:
            raise self.wrong("labels", given, "a list of words, or lines of raw label: word")
        if len(set(words.values())) < 2 or len(words) < len(given):
            raise self.wrong("labels", given, "two or more, each once")
        return Labels(words)

    def sources(self) -> dict[tuple[str, str], str]:
        files = self.mapping("files", self.content.get("files"))
        for split in files:
            if split not in _SPLITS:
                raise DataError(f"{self.path}: there is no key files.{split}", allowed=_SPLITS)
        for split in ("train", "test"):
            if files.get(split) is None:
                hint = f"add a line {split}: … under files"
                raise DataError(f"{self.path} has no files.{split}", hint=hint)
        sources = {
            (split, "en"): self.source(f"files.{split}", files[split])
            for split in _SPLITS[:2]
            if files.get(split) is not None
        }
        tests = self.mapping("files.test", files["test"])
        if not tests:
            raise self.wrong("files.test", tests, "lines of language: file")
        for language, value in tests.items():
            sources["test", language] = self.source(f"files.test.{language}", value)
        return sources

    def source(self, key: str, value: object) -> str:
        name = self.word(key, value)
        path = self.path.parent / name
        # A file of another format could pass for a hub id.
        source = str(path) if path.exists() else name
        try:
            local = records.is_local(source)
        except DataError as error:
            raise DataError(f"{self.path}: {key}: {error}") from None
        if local and not path.is_file():
            raise DataError(f"{self.path}: {key}: there is no file {path}")
        return source

    def mapping(self, key: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong(key, value, "lines of name: value")
        return {self.key(key, name): item for name, item in value.items()}

    def key(self, key: str, name: object) -> str:
        """A name within a key, as text; a number is one, a truth value is a trap of YAML's."""
        if isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
            raise DataError(f"{self.path}: {key} has the name {name!r}", hint=_QUOTES)
        return str(name)

    def wrong(self, key: str, value: object, allowed: str) -> DataError:
        hint = _QUOTES if _has_truth_value(value) else None
        return DataError(f"{self.path}: {key} is {value!r}", allowed=allowed, hint=hint)


def _has_truth_value(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_truth_value, value))
    return isinstance(value, bool)
