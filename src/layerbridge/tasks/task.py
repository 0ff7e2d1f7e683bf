"""A task: rows with a text for the encoder and a target word for the language model.

This module knows nothing about tokenizers, models or metrics. The split is part of the interface:
``train`` and ``validation`` take no language and return English rows only, so a choice made on them
(a learning rate, a step, a seed) cannot depend on a test row or on another language.
"""

from __future__ import annotations

import string
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from layerbridge.errors import DataError
from layerbridge.tasks.languages import own_code

TEMPLATE_FORM = "text with columns in braces, such as 'Review: {text} Label: '"


@dataclass(frozen=True)
class Row:
    """One example.

    Attributes:
        id: unique within its split and language; the same on every machine.
        text: what the encoder reads, with the task's template already applied; may be empty.
        target: the word that the language model should answer, one of the task's options.
        language: CLDR (BCP 47) code, ``en`` for English.
        fields: the raw columns, as strings.
        item: what the row asks about: test rows of several languages with one item are translations
            of each other, and a hard one is hard in all of them. None if no other language has it.
    """

    id: str
    text: str
    target: str
    language: str
    fields: Mapping[str, str] = field(default_factory=dict)
    item: str | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a task's rows before anything is read or downloaded.

    Attributes:
        place: ``built in``, ``local``, ``hub cache`` or ``not yet``; if only part of the data is
            available, how much.
        train: number of rows in the source; None if it is not known before reading.
        validation: the same for validation rows.
        test: the same for test rows, by language.
    """

    place: str
    train: int | None
    validation: int | None
    test: Mapping[str, int | None]


class Task(ABC):
    """A benchmark: English rows to train and tune on, rows of each language to test on.

    A subclass sets the attributes and implements ``_train``, ``_validation`` and ``_test``.
    ``layerbridge.tasks.register`` makes it available by name.

    Attributes:
        name: as in ``layerbridge.tasks.get(name)``.
        description: one sentence.
        options: the label words, in a fixed order.
        languages: the codes that ``test`` accepts, English first.
        template: the encoder's text, with columns in braces.
        licence: of the data.
        file: the YAML file that describes the task, if there is one.
    """

    name: str
    description: str
    options: tuple[str, ...]
    languages: tuple[str, ...]
    template: str
    licence: str
    file: Path | None = None

    def train(self) -> Sequence[Row]:
        """Returns the English training rows: a list, or of a large source ``StoredRows``."""
        return _english(self._train())

    def validation(self) -> Sequence[Row]:
        """Returns the English rows to choose settings and steps on; none is a training row."""
        return _english(self._validation())

    def watched(self, language: str) -> list[Row]:
        """Returns validation rows of another language, to look at and not to choose by.

        Only what is on this machine is read; a task without any, as is the default, returns none.
        """
        return []

    def test(self, language: str) -> list[Row]:
        """Returns the test rows of one language.

        Raises:
            DataError: the task has no test rows in this language.
        """
        return self._test(self.check_language(language))

    def check_language(self, language: str) -> str:
        """Checks, without reading rows, that the task has test rows in a language.

        Args:
            language: its code; any that names the language does (``sw``, ``swa``, ``swh_Latn``).

        Returns:
            The task's own code for it.

        Raises:
            DataError: it has none.
        """
        own = own_code(language, self.languages)
        if own not in self.languages:
            raise DataError(
                f"the task {self.name} has no test rows in {language!r}", allowed=self.languages
            )
        return own

    def version(self) -> str:
        """Returns what the rows depend on besides the options, such as a data release."""
        return ""

    def settings(self) -> dict[str, str]:
        """Returns what a result file says about the task."""
        file = {} if self.file is None else {"task_file": str(self.file)}
        return {"task_version": self.version(), **file}

    @property
    def file_template(self) -> str:
        """The template with the column names of a row's ``fields``."""
        return self.template

    def dropped(self) -> dict[str, int]:
        """Returns how many rows ``train`` and ``validation`` leave out, by split.

        A training text that is also an English validation or test text would inflate both scores,
        and so would a validation text that is also a test text. Splits without any are absent.
        """
        return {}

    def dataset_info(self) -> DatasetInfo:
        """Returns how many rows there are and where; uses no network."""
        test = {language: len(self.test(language)) for language in self.languages}
        return DatasetInfo("built in", len(self.train()), len(self.validation()), test)

    @abstractmethod
    def _train(self) -> Sequence[Row]: ...

    @abstractmethod
    def _validation(self) -> Sequence[Row]: ...

    @abstractmethod
    def _test(self, language: str) -> list[Row]: ...


def template_columns(template: str) -> tuple[str, ...]:
    """Returns the columns that a template names, in order and without duplicates.

    Raises:
        DataError: unbalanced braces, an empty field, or a format specification.
    """
    return tuple(dict.fromkeys(name for _, name in _parts(template) if name is not None))


def render(template: str, fields: Mapping[str, str]) -> str:
    """Fills a template: each ``{column}`` becomes that column's text, ``{{`` a brace.

    Raises:
        DataError: the template is malformed or names a column that is not in ``fields``.
    """
    missing = [name for name in template_columns(template) if name not in fields]
    if missing:
        raise DataError(
            f"the template {template!r} names {missing[0]!r}, which is not a column", allowed=fields
        )
    return "".join(
        literal + ("" if name is None else fields[name]) for literal, name in _parts(template)
    )


def template_end(template: str | None) -> str:
    """Returns a template's own words after its last column; "" without any.

    A malformed template, which a task made in Python may have, has none.
    """
    try:
        parts = _parts(template or "")
    except DataError:
        return ""
    # A literal that no column follows comes last.
    return parts[-1][0] if len(parts) > 1 and parts[-1][1] is None else ""


def has_empty_text(row: Row, template: str) -> bool:
    """Returns whether a column that the template names is empty in a row, or the whole text."""
    try:
        columns = template_columns(template)
    except DataError:
        columns = ()
    if not columns or any(column not in row.fields for column in columns):
        return not row.text.strip()
    return not all(row.fields[column].strip() for column in columns)


def rename_columns(template: str, names: Mapping[str, str]) -> str:
    """Returns the template with columns renamed; columns not in ``names`` stay.

    Raises:
        DataError: the template is malformed.
    """
    return "".join(
        literal.replace("{", "{{").replace("}", "}}")
        + ("" if name is None else f"{{{names.get(name, name)}}}")
        for literal, name in _parts(template)
    )


@lru_cache
def _parts(template: str) -> tuple[tuple[str, str | None], ...]:
    # str.format would read a dot or a bracket in a column name as an attribute or an index, and
    # so give templates access to attributes. Only whole names are allowed.
    problem = f"the template {template!r} is malformed"
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DataError(f"{problem} ({error})", allowed=TEMPLATE_FORM) from None
    if any(name == "" or spec or conversion for _, name, spec, conversion in parsed):
        raise DataError(problem, allowed=TEMPLATE_FORM)
    return tuple((literal, name) for literal, name, _, _ in parsed)


def _english(rows: Sequence[Row]) -> Sequence[Row]:
    # Rows on the disk have one language.
    checked = rows if isinstance(rows, (list, tuple)) else rows[:1]
    assert all(row.language == "en" for row in checked), "train and validation are English only"
    return rows
