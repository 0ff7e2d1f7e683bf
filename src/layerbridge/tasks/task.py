"""What a task is: rows with a text for the encoder and a target word for the language model.

Knows nothing of tokenizers, models or metrics. The split is part of the type: ``train`` and
``validation`` take no language and give English only, so a choice made on them (a learning rate,
a step, a seed) cannot have looked at a test row or at another language.
"""

from __future__ import annotations

import string
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from layerbridge.errors import DataError
from layerbridge.tasks.dataset_info import DatasetInfo


@dataclass(frozen=True)
class Row:
    """One example.

    Attributes:
        id: unique within its split and language; the same on every machine.
        text: what the encoder reads, with the task's template already applied; may be empty.
        target: the word that the language model should answer, one of the task's options.
        language: CLDR (BCP 47) code, ``en`` for English.
        fields: the raw columns, as strings.
    """

    id: str
    text: str
    target: str
    language: str
    fields: Mapping[str, str] = field(default_factory=dict)


class Task(ABC):
    """A benchmark: English rows to learn and to choose on, rows of each language to test on.

    A new task sets the attributes, implements ``_train``, ``_validation`` and ``_test``, and adds
    one line to the registry in ``layerbridge.tasks``.

    Attributes:
        name: as in ``layerbridge.tasks.get(name)``.
        description: one sentence.
        options: the label words, in a fixed order.
        languages: the codes that ``test`` accepts, English first.
        template: the encoder's text, with columns in braces.
        licence: of the data.
    """

    name: str
    description: str
    options: tuple[str, ...]
    languages: tuple[str, ...]
    template: str
    licence: str

    def train(self) -> list[Row]:
        """The English rows to train on."""
        return _english(self._train())

    def validation(self) -> list[Row]:
        """The English rows to choose settings and steps on; none of them is a training row."""
        return _english(self._validation())

    def test(self, language: str) -> list[Row]:
        """The rows of one language to report on, English included.

        Raises:
            DataError: the task has no rows in this language.
        """
        self.check_language(language)
        return self._test(language)

    def check_language(self, language: str) -> None:
        """Whether there are test rows in it, without reading any.

        Raises:
            DataError: there are none.
        """
        if language not in self.languages:
            raise DataError(
                f"the task {self.name} has no test rows in {language!r}", allowed=self.languages
            )

    def version(self) -> str:
        """What the rows depend on besides the options: a data release, a library's version."""
        return ""

    @property
    def file_template(self) -> str:
        """The template with the names that the columns have in a row's ``fields``."""
        return self.template

    def dropped(self) -> dict[str, int]:
        """Rows left out of ``train`` and ``validation`` because their texts come up again later.

        A training text that is also an English validation or test text would make both figures
        too good; so would a validation text that is also a test text. Empty where there are none.
        """
        return {}

    def holdings(self) -> DatasetInfo:
        """How many rows there are and where they are; asks no network."""
        test = {language: len(self.test(language)) for language in self.languages}
        return DatasetInfo("built in", len(self.train()), len(self.validation()), test)

    @abstractmethod
    def _train(self) -> list[Row]: ...

    @abstractmethod
    def _validation(self) -> list[Row]: ...

    @abstractmethod
    def _test(self, language: str) -> list[Row]: ...


def template_columns(template: str) -> tuple[str, ...]:
    """The columns that a template names, in order, each once.

    Raises:
        DataError: braces that do not match, an empty field, or a format specification.
    """
    return tuple(dict.fromkeys(name for _, name in _parts(template) if name is not None))


def render(template: str, fields: Mapping[str, str]) -> str:
    """Fill a template: each ``{column}`` becomes that column's text, ``{{`` a brace.

    Raises:
        DataError: the template is malformed, or names a column that is not in ``fields``.
    """
    missing = [name for name in template_columns(template) if name not in fields]
    if missing:
        raise DataError(
            f"the template {template!r} names {missing[0]!r}, which is not a column", allowed=fields
        )
    return "".join(
        literal + ("" if name is None else fields[name]) for literal, name in _parts(template)
    )


def rename_columns(template: str, names: Mapping[str, str]) -> str:
    """The template with other names for its columns; those that ``names`` lacks stay.

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
    # str.format would read a dot or a bracket in a column's name as an attribute or an index,
    # and would give a template access to attributes; only whole names are wanted.
    problem = f"the template {template!r} is malformed"
    form = "text with columns in braces, such as 'Review: {text} Label: '"
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DataError(f"{problem} ({error})", allowed=form) from None
    if any(name == "" or spec or conversion for _, name, spec, conversion in parsed):
        raise DataError(problem, allowed=form)
    return tuple((literal, name) for literal, name, _, _ in parsed)


def _english(rows: list[Row]) -> list[Row]:
    assert all(row.language == "en" for row in rows), "train and validation are English only"
    return rows
