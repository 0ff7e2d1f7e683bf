"""The labels of a data set, and the word that stands for each of them in front of an LLM.

A raw label is known as it is written in the data, by its word, in any case of letters, and by its
place where the data set numbers its classes. Knows nothing of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Labels:
    """Raw label → word, in a fixed order.

    Attributes:
        words: for each raw label; two raw labels may share a word.
        numbered: whether "0", "1", … in the data are the places in ``words``.
    """

    words: Mapping[str, str]
    numbered: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """The words, each once."""
        return tuple(dict.fromkeys(self.words.values()))

    def word(self, raw: str) -> str | None:
        """The word for a label as the data has it; None if it is none of these."""
        exact = self.words.get(raw)
        return exact if exact is not None else self._spellings.get(raw.strip().casefold())

    @cached_property
    def _spellings(self) -> dict[str, str]:
        numbers = {str(place): word for place, word in enumerate(self.words.values())}
        spellings = numbers if self.numbered else {}
        # What is written in the data comes before what is only the word for something in it.
        for names in (self.words.values(), self.words):
            spellings.update({name.casefold(): self.words.get(name, name) for name in names})
        return spellings
