"""A user's own task: a YAML file and the rows it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from layerbridge.errors import DataError
from layerbridge.tasks import task_file
from layerbridge.tasks.labels import Labels
from layerbridge.tasks.sourced import SourcedTask, split_codes


class UserTask(SourcedTask):
    """The task that a YAML file describes; ``docs/tasks.md`` has an example.

    Args:
        path: of the YAML file.
        languages: codes to test on, of those in the file; None for all.
        train_per_label: number of training rows per label, the first in the file; None for all.
        max_test: number of test rows per language; None for all.
        skip_unknown_labels: leave rows out whose label is not in the file, and say how many.

    Raises:
        DataError: the file is missing or invalid, or a language or number does not fit.
    """

    def __init__(
        self,
        path: str | Path,
        languages: str | Sequence[str] | None = None,
        train_per_label: int | None = None,
        max_test: int | None = None,
        skip_unknown_labels: bool = False,
    ) -> None:
        super().__init__(train_per_label, max_test)
        if not isinstance(skip_unknown_labels, bool):
            raise DataError(
                f"skip_unknown_labels is {skip_unknown_labels!r}", allowed="true or false"
            )
        self.skip_unknown_labels = skip_unknown_labels
        path = Path(path)
        self.file = path
        self._file = task_file.read(path)
        self.name = self._file.name
        self.description = self._file.description or f"The task of {path.name}."
        self.licence = self._file.licence
        self.template = self._file.template
        self.target = self._file.target
        self.labels = Labels(self._file.labels)
        self.options = self.labels.options
        self.parallel = self._file.parallel
        self.holds_out = self._file.files.validation is None
        self.languages = tuple(sorted(self._file.files.test, key=lambda code: code != "en"))
        if languages is not None:
            codes = [self.check_language(language) for language in split_codes(languages)]
            self.languages = tuple(code for code in self.languages if code in ("en", *codes))
        self.check_apart()

    def source(self, split: str, language: str = "en") -> str | None:
        """See ``SourcedTask.source``."""
        files = self._file.files
        if split == "test":
            return files.test.get(language)
        return {"train": files.train, "validation": files.validation}[split]

    @property
    def file_template(self) -> str:
        """See ``Task.file_template``."""
        return self._file.file_template
