"""The labels of a data set and the word that stands for each of them in front of an LLM.

A raw label is recognized as the data writes it, by its word, in any letter case, and by its index
where the data set numbers its classes. Knows nothing about rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from layerbridge.errors import DataError
from layerbridge.tasks.text import check_unicode, same_spelling


@dataclass(frozen=True)
class Labels:
    """Raw label → word, in a fixed order.

    Attributes:
        words: for each raw label; two raw labels may share a word.
        numbered: whether "0", "1", … in the data are indices into ``words``.
    """

    words: Mapping[str, str]
    numbered: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """The words, without duplicates."""
        return tuple(dict.fromkeys(self.words.values()))

    def word(self, raw: str) -> str | None:
        """Returns the word for a raw label; None if the label is unknown."""
        exact = self.words.get(raw)
        return exact if exact is not None else self._spellings.get(_spelling(raw))

    @cached_property
    def _spellings(self) -> dict[str, str]:
        numbers = {str(index): word for index, word in enumerate(self.words.values())}
        spellings = numbers if self.numbered else {}
        # A raw label takes precedence over a word that is spelled the same.
        for names in (self.words.values(), self.words):
            spellings.update({_spelling(name): self.words.get(name, name) for name in names})
        return spellings


def check_options(options: Sequence[str]) -> None:
    """Checks the label words that a user has given.

    Raises:
        DataError: one is empty, a duplicate or not text.
    """
    if isinstance(options, str):
        raise DataError(f"options is a string, {options!r}", allowed="a list of strings")
    seen: set[str] = set()
    for option in options:
        check_unicode(option, f"the option {option!a}")
        if not option.strip():
            raise DataError("an option is empty", allowed="label words")
        if same_spelling(option) in seen:
            raise DataError(f"duplicate option {option!r}", allowed="each option once")
        seen.add(same_spelling(option))


def _spelling(label: str) -> str:
    return same_spelling(label).strip().casefold()
