"""The YAML file that describes a user's own task.

Every error names the file and the key. Paths in the file are relative to it. Reads no rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
)

from layerbridge.errors import DataError
from layerbridge.tasks import records
from layerbridge.tasks.languages import own_code
from layerbridge.tasks.task import rename_columns, template_columns
from layerbridge.tasks.text import check_unicode_in

_QUOTES = "put it in quotes; YAML reads no, yes, on and off as true or false"
# What is allowed, by key or by pydantic's type of error; our own validators say it themselves.
_ALLOWED = {
    "name": "lowercase letters, digits, '-', '_' and '.'",
    "string_type": "text",
    "string_pattern_mismatch": "text",
    "bool_type": "true or false",
    "dict_type": "lines of name: value",
    "model_type": "lines of name: value",
    "too_short": "lines of language: file",
}


def _key(name: object) -> str:
    if isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
        raise ValueError("text or a number")
    return str(name)


def _label_words(labels: object) -> dict[Any, Any]:
    if isinstance(labels, list) and all(isinstance(word, str) for word in labels):
        words = {word: word for word in labels}
    elif isinstance(labels, dict):
        words = {str(raw): word for raw, word in labels.items()}
    else:
        raise ValueError("a list of words, or lines of raw label: word")
    if len(words) < len(labels) or len(set(map(str, words.values()))) < 2:
        raise ValueError("two or more, without duplicates")
    return labels if isinstance(labels, dict) else words


_Key = Annotated[str, BeforeValidator(_key)]
_Text = Annotated[str, StringConstraints(strict=True, pattern=r"\S")]


class Files(BaseModel, extra="forbid"):
    """Sources by split; training and validation rows are English."""

    train: _Text
    validation: _Text | None = None
    test: dict[_Key, _Text] = Field(min_length=1)


class TaskFile(BaseModel, extra="forbid"):
    """A task as its file describes it; the keys are explained in ``docs/tasks.md``."""

    # Result files are named after the task.
    name: Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    description: _Text | None = None
    template: _Text
    labels: Annotated[dict[_Key, _Text], BeforeValidator(_label_words)]
    columns: dict[_Key, _Text] | None = None
    files: Files
    parallel: StrictBool = False
    licence: _Text = "not stated"

    @property
    def target(self) -> str:
        """The column with the label."""
        return (self.columns or {}).get("label", "label")

    @property
    def file_template(self) -> str:
        """The template with the column names of the files."""
        return rename_columns(self.template, self.columns or {})


def read(path: Path) -> TaskFile:
    """Reads a task file; its sources become paths or hub sources.

    Raises:
        DataError: the file is missing, is not YAML, or a key in it does not fit.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"cannot read the task file {path} ({error.strerror or error})", hint="check the path"
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"the task file {path} is not UTF-8") from None
    except yaml.YAMLError as error:
        raise DataError(f"the task file {path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"the task file {path} has no keys", allowed=TaskFile.model_fields)
    check_unicode_in(content, f"the task file {path}")
    try:
        task = TaskFile.model_validate(content)
    except ValidationError as error:
        raise _problem(path, error) from None
    _check_columns(path, task)
    files = task.files
    files.train = _source(path, "train", files.train)
    if files.validation is not None:
        files.validation = _source(path, "validation", files.validation)
    # English is always ``en``: its texts must not be trained on, and it is not in averages.
    english = own_code("en", files.test)
    files.test = {
        "en" if code == english else code: _source(path, f"test.{code}", value)
        for code, value in files.test.items()
    }
    return task


def _problem(path: Path, invalid: ValidationError) -> DataError:
    """Turns the first problem into one line, but an unknown key goes before a missing one."""
    unknown = ("extra_forbidden", "invalid_key")
    errors = sorted(invalid.errors(), key=lambda error: error["type"] not in unknown)
    kind, value, where = errors[0]["type"], errors[0]["input"], errors[0]["loc"]
    key = ".".join(str(part) for part in where if part != "[key]")
    section: Any = Files if where[0] == "files" and len(where) > 1 else TaskFile
    if kind in unknown:
        name = key if kind == "extra_forbidden" else value
        return DataError(f"{path}: unknown key {name!r}", allowed=section.model_fields)
    if kind == "missing":
        under = " under files" if section is Files else ""
        return DataError(f"{path} has no {key}", hint=f"add a line {where[-1]}: …{under}")
    if where[-1] == "[key]":
        parent = ".".join(map(str, where[:-2]))
        return DataError(f"{path}: {parent} has the name {value!r}", hint=_QUOTES)
    allowed = (
        _ALLOWED.get(key)
        or _ALLOWED.get(kind)
        or str(errors[0].get("ctx", {}).get("error", errors[0]["msg"]))
    )
    values = value if isinstance(value, list) else [value]
    quotes = _QUOTES if any(isinstance(item, bool) for item in values) else None
    return DataError(f"{path}: {key} is {value!r}", allowed=allowed, hint=quotes)


def _check_columns(path: Path, task: TaskFile) -> None:
    try:
        columns = template_columns(task.template)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    known = (*columns, "label")
    unknown = [name for name in task.columns or () if name not in known]
    template = f"{path}: template is {task.template!r}"
    if not columns:
        raise DataError(template, allowed="text with columns in braces")
    if unknown:
        raise DataError(f"{path}: columns.{unknown[0]} is not in the template", allowed=known)
    if task.target in template_columns(task.file_template):
        raise DataError(template, allowed=f"text without {task.target!r}, which is the label")


def _source(path: Path, key: str, name: str) -> str:
    file = path.parent / name
    # A file of another format must not pass for a hub id.
    source = str(file) if file.exists() else name
    try:
        local = records.is_local(source)
    except DataError as error:
        raise DataError(f"{path}: files.{key}: {error}") from None
    if local and not file.is_file():
        raise DataError(f"{path}: files.{key}: the file {file} does not exist")
    return str(file) if local else name
