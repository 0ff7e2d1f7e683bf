"""Published benchmarks: rows from local folders or from the Hugging Face Hub, the same either way.

Each benchmark is a YAML file in ``benchmarks/`` and a name in ``registry.py``. The file states what
the data set is, which traps it has, and where its rows are on the hub.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import yaml

from layerbridge.errors import DataError
from layerbridge.tasks.folder import Folders, file_names
from layerbridge.tasks.labels import Labels
from layerbridge.tasks.languages import own_code
from layerbridge.tasks.sourced import SourcedTask, split_codes
from layerbridge.tasks.task import template_columns

_SPLIT_NAMES = {"train": "training", "validation": "validation", "test": "test"}


class Benchmark(SourcedTask):
    """A benchmark with languages to test on.

    Args:
        path: the benchmark's YAML file; its keys are the attributes of this class and its parents.
        data_dir: folders with the rows, searched in order; the hub is not used then. The layout is
            in ``docs/tasks.md``.
        languages: codes to test on; English is always first. By default the benchmark's, or those
            that ``data_dir`` has.
        train_per_label: number of training rows per label, the first in the file; None for all.
        max_test: number of test rows per language; None for all.

    Attributes:
        hub: the source on the hub, with ``{language}`` and ``{split}``; None if it is not there.
        english_hub: the same for English, if it differs.
        english_of: the benchmark that the English rows come from, if they are another's.
        source_codes: CLDR code → the data set's own language code, where they differ.
        other_codes: a pattern of the data set's own codes for languages that have no code here.
        has_validation: whether there are validation rows; if not, training rows are held out.
        english_test: whether English test rows are expected; if not, English is tested only where
            the folders have some.

    Raises:
        DataError: a folder, language or number does not fit.
    """

    hub: str | None = None
    english_hub: str | None = None
    english_of: str | None = None
    source_codes: Mapping[str, str] = {}
    other_codes: str | None = None
    has_validation: bool = True
    english_test: bool = True

    def __init__(
        self,
        path: Path,
        data_dir: str | Path | Sequence[str | Path] | None = None,
        languages: str | Sequence[str] | None = None,
        train_per_label: int | None = None,
        max_test: int | None = None,
    ) -> None:
        super().__init__(train_per_label, max_test)
        facts = yaml.safe_load(path.read_text(encoding="utf-8"))
        labels = facts.pop("labels")
        words = labels if isinstance(labels, dict) else {word: word for word in labels}
        self.labels = Labels(words, numbered=facts.pop("numbered_labels", False))
        self.options = self.labels.options
        self.known: Sequence[str] = facts.pop("languages")
        for key, value in facts.items():
            setattr(self, key, value)
        self.folders: Folders | None = None
        self.english_folders: Folders | None = None
        if data_dir is not None:
            english = [name for name in (self.name, self.english_of) if name is not None]
            self.folders = Folders.of(data_dir, [self.name])
            self.english_folders = Folders.of(data_dir, english)
        self.languages = tuple(self.known)
        if languages is not None:
            codes = [self._known_code(language) for language in split_codes(languages)]
            self.languages = tuple(dict.fromkeys(("en", *codes)))
        elif self.folders is not None:
            present = [code for code in self.known[1:] if self.source("test", code) is not None]
            self.languages = ("en", *present)
        if self.folders is not None and not self.english_test and self.source("test") is None:
            self.languages = tuple(code for code in self.languages if code != "en")
        tests = (self.source("test", language) for language in self.languages)
        files = (self.source("train"), self.source("validation"), *tests)
        if self.folders is not None and not any(files):
            raise DataError(
                f"no file of the task {self.name} in {self.folders}",
                allowed=f"train-en, valid-en, test-LANGUAGE; columns {', '.join(self._columns)}",
            )
        self.holds_out = not self.has_validation and self.source("validation") is None
        self.check_apart()

    def source(self, split: str, language: str = "en") -> str | None:
        """See ``SourcedTask.source``."""
        code = self.source_codes.get(language, language)
        folders = self.english_folders if language == "en" else self.folders
        if folders is not None:
            return folders.find(split, tuple(dict.fromkeys((language, code))))
        pattern = self.english_hub if language == "en" and self.english_hub else self.hub
        if pattern is None or (split == "validation" and not self.has_validation):
            return None
        return pattern.format(language=code, split=split)

    def version(self) -> str:
        """Returns a digest of the local test files, or the hub source of the English ones."""
        if self.folders is None:
            return self.source("test") or ""
        return self._local_version

    @cached_property
    def _local_version(self) -> str:
        # Cached: it reads every file, and every result needs it.
        digest = hashlib.sha256()
        for language in self.languages:
            file = self.source("test", language)
            digest.update(b"" if file is None else Path(file).read_bytes())
        return f"local files, sha256 {digest.hexdigest()[:16]}"

    def check_language(self, language: str) -> str:
        """See ``Task.check_language``; accepts any language that has test rows.

        Raises:
            DataError: it has none.
        """
        own = self._known_code(language)
        if self.source("test", own) is None:
            raise self._missing("test", own)
        return own

    def _known_code(self, language: str) -> str:
        # Under two names a language would count twice, and English as another language.
        by_source = {source: code for code, source in self.source_codes.items()}
        own = own_code(by_source.get(language, language), self.known)
        if own in self.known:
            return own
        if self.folders is not None:
            accepted = self.source("test", language) is not None
        else:
            accepted = bool(self.other_codes and re.fullmatch(self.other_codes, language))
        return language if accepted else super().check_language(language)

    def _place(self, sources: Sequence[str | None]) -> str:
        local_only = self.folders is None and not any(sources)
        return "not yet, local files only" if local_only else super()._place(sources)

    @property
    def _columns(self) -> tuple[str, ...]:
        return (*template_columns(self.file_template), self.target)

    def _missing(self, split: str, language: str) -> DataError:
        if self.folders is None:
            return DataError(
                f"the task {self.name} is not on the hub",
                allowed="files train-en, valid-en, test-LANGUAGE with columns "
                f"{', '.join(self._columns)}",
                hint="give the folder that has them with --data-dir (data_dir in Python)",
            )
        folders = self.english_folders if language == "en" else self.folders
        return DataError(
            f"the task {self.name} has no {_SPLIT_NAMES[split]} rows in {language!r} in {folders}",
            allowed=file_names(split, language),
            hint="add a folder with --data-dir (data_dir in Python)",
        )
