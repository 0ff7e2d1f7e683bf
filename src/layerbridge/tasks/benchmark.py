"""A published benchmark: its rows from a local folder or from the hub, the same rows either way.

A new one is a file with a subclass and a line in the registry. Each file says what the data set is,
which of its traps were found, and where its rows are on the hub.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from layerbridge.errors import DataError
from layerbridge.tasks.folder import Folders, wanted
from layerbridge.tasks.sourced import SourcedTask
from layerbridge.tasks.task import template_columns

_CALLED = {"train": "training", "validation": "validation", "test": "test"}


class Benchmark(SourcedTask):
    """A benchmark with languages to test on.

    Args:
        data_dir: a folder with the rows, or several to look in one after the other; then the hub is
            not asked. The layout is in ``docs/tasks.md``.
        languages: codes to test on, English always among them and first. If not given: the
            benchmark's, or those of them that ``data_dir`` has.
        train_per_label: so many training rows of each label, the first in the file; None for all.
        max_test: so many test rows a language; None for all.

    Attributes:
        known: the benchmark's languages, English first.
        english_of: the benchmark whose English rows these are, if they are not its own.
        has_validation: whether it has validation rows; if not, some training rows are taken.

    Raises:
        DataError: a folder, language or number that does not fit.
    """

    known: tuple[str, ...]
    english_of: str | None = None
    has_validation: bool = True

    def __init__(
        self,
        data_dir: str | Path | Sequence[str | Path] | None = None,
        languages: str | Sequence[str] | None = None,
        train_per_label: int | None = None,
        max_test: int | None = None,
    ) -> None:
        super().__init__(train_per_label, max_test)
        self.folders: Folders | None = None
        self.english_folders: Folders | None = None
        if data_dir is not None:
            english = [name for name in (self.name, self.english_of) if name is not None]
            self.folders = Folders.of(data_dir, [self.name])
            self.english_folders = Folders.of(data_dir, english)
        self.languages = self.known
        if languages is not None:
            given = languages.split(",") if isinstance(languages, str) else languages
            for language in given:
                self._check_known(language)
            self.languages = tuple(dict.fromkeys(("en", *given)))
        elif self.folders is not None:
            there = [code for code in self.known[1:] if self.source("test", code) is not None]
            self.languages = ("en", *there)
        if self.folders is not None and not self._any_file():
            raise DataError(
                f"there is no file of the task {self.name} in {self.folders}",
                allowed=f"train-en, valid-en, test-LANGUAGE; columns {', '.join(self.columns)}",
            )
        self.holds_out = not self.has_validation and self.source("validation") is None
        self.check_apart()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every file has to have."""
        return (*template_columns(self.file_template), self.target)

    @abstractmethod
    def hub(self, split: str, language: str) -> str | None:
        """Where the rows of a known language are on the hub; None if they are not there."""

    def codes(self, language: str) -> tuple[str, ...]:
        """What the language is called in file names."""
        return (language,)

    def source(self, split: str, language: str = "en") -> str | None:
        """See ``SourcedTask.source``."""
        folders = self.english_folders if language == "en" else self.folders
        if folders is not None:
            return folders.find(split, self.codes(language))
        return self.hub(split, language)

    def version(self) -> str:
        """A digest of the local test files, wherever they are; the hub's address of the English."""
        if self.folders is None:
            return self.source("test") or ""
        return self._local_version

    @cached_property
    def _local_version(self) -> str:
        # Kept, because every file is read whole for it and every result asks.
        digest = hashlib.sha256()
        for language in self.languages:
            file = self.source("test", language)
            digest.update(b"" if file is None else Path(file).read_bytes())
        return f"local files, sha256 {digest.hexdigest()[:16]}"

    def check_language(self, language: str) -> None:
        """See ``Task.check_language``; a language beyond the default ones will do if it is there.

        Raises:
            DataError: there are no test rows in it.
        """
        self._check_known(language)
        if self.source("test", language) is None:
            raise self._missing("test", language)

    def _check_known(self, language: str) -> None:
        if language not in self.known and not self._has(language):
            super().check_language(language)

    def _has(self, language: str) -> bool:
        """Whether there are test rows in a language that is not one of the known ones."""
        return self.folders is not None and self.source("test", language) is not None

    def _place(self, sources: Sequence[str | None]) -> str:
        on_no_hub = self.folders is None and not any(sources)
        return "not yet, local files only" if on_no_hub else super()._place(sources)

    def _any_file(self) -> bool:
        tested = (self.source("test", language) for language in self.languages)
        return any((self.source("train"), self.source("validation"), *tested))

    def _missing(self, split: str, language: str) -> DataError:
        called = f"{_CALLED[split]} rows in {language!r}"
        if self.folders is None:
            return DataError(
                f"the task {self.name} is on no hub that layerbridge can read",
                allowed="files train-en, valid-en, test-LANGUAGE with columns "
                f"{', '.join(self.columns)}",
                hint="name the folder that has them with --data-dir (data_dir in Python)",
            )
        folders = self.english_folders if language == "en" else self.folders
        return DataError(
            f"there are no {called} for the task {self.name} in {folders}",
            allowed=wanted(split, language),
            hint="name one more folder with --data-dir (data_dir in Python)",
        )
