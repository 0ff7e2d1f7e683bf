"""A user's own task: a YAML file and the rows that it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from layerbridge.tasks import task_file
from layerbridge.tasks.sourced import SourcedTask


class UserTask(SourcedTask):
    """The task that a YAML file describes; ``docs/tasks.md`` has a whole one.

    Args:
        path: of the YAML file.
        languages: codes to test on, of those in the file; None for all.
        train_per_label: so many training rows of each label, the first in the file; None for all.
        max_test: so many test rows a language; None for all.

    Raises:
        DataError: the file is missing or does not fit, or there is no such language or number.
    """

    def __init__(
        self,
        path: str | Path,
        languages: str | Sequence[str] | None = None,
        train_per_label: int | None = None,
        max_test: int | None = None,
    ) -> None:
        super().__init__(train_per_label, max_test)
        read = task_file.read(path)
        self.name = read.name
        self.description = read.description
        self.licence = read.licence
        self.template = read.template
        self._renamed_template = read.file_template
        self.target = read.target
        self.labels = read.labels
        self.options = read.labels.options
        self.parallel = read.parallel
        self._sources = read.sources
        self.holds_out = self.source("validation") is None
        tested = [language for split, language in read.sources if split == "test"]
        self.languages = tuple(sorted(tested, key=lambda language: language != "en"))
        if languages is not None:
            given = languages.split(",") if isinstance(languages, str) else languages
            for language in given:
                self.check_language(language)
            self.languages = tuple(code for code in self.languages if code in ("en", *given))
        self.check_apart()

    def source(self, split: str, language: str = "en") -> str | None:
        """See ``SourcedTask.source``."""
        return self._sources.get((split, language))

    @property
    def file_template(self) -> str:
        """See ``Task.file_template``."""
        return self._renamed_template
