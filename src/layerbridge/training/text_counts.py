"""How many texts are not read as they were written: cut at the encoder's limit, or empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerbridge.tasks.task import Row, has_empty_text

if TYPE_CHECKING:
    from layerbridge.models.encoder import Encoder


@dataclass(frozen=True)
class TextCounts:
    """Numbers of rows of one split or language.

    Attributes:
        rows: all of them.
        cut: those whose text is longer than ``max_text_tokens``.
        empty: those without a text, or without that of a column in the template.
        sampled: the number of rows among which these were counted; None for all.
    """

    rows: int
    cut: int
    empty: int
    sampled: int | None = None

    @classmethod
    def of(
        cls, rows: Sequence[Row], template: str | None, *, cut: int, all_rows: int | None = None
    ) -> TextCounts:
        """Counts empty texts; ``template`` has the columns of the rows' fields.

        Args:
            rows: all, or a sample.
            template: of their texts.
            cut: number of cut texts among them.
            all_rows: of how many rows these are a sample.
        """
        empty = sum(has_empty_text(row, template or "") for row in rows)
        if all_rows is None or all_rows == len(rows):
            return cls(len(rows), cut, empty)
        return cls(all_rows, cut, empty, len(rows))

    def __add__(self, other: TextCounts) -> TextCounts:
        return TextCounts(self.rows + other.rows, self.cut + other.cut, self.empty + other.empty)

    def changed(self) -> dict[str, int]:
        """Returns the counts that are not 0, without the rows, by name."""
        counts = {"cut": self.cut, "empty": self.empty}
        return {name: number for name, number in counts.items() if number}


def log_entry(counts: Mapping[str, TextCounts]) -> dict[str, float]:
    """Returns the counts of all splits as one entry of a training log."""
    return {
        f"{split}_{name}": number
        for split, count in counts.items()
        for name, number in (
            ("rows", count.rows),
            ("texts_cut", count.cut),
            ("texts_empty", count.empty),
            ("rows_sampled", count.sampled),
        )
        if number is not None
    }


def notes(counts: Mapping[str, TextCounts], max_text_tokens: int | None) -> list[str]:
    """Returns a line for each kind of count that is not 0; ``counts`` is by split or language."""
    lines = []
    for kind, what in (("cut", f"texts cut at {max_text_tokens} tokens"), ("empty", "empty texts")):
        parts = [
            f"{number} of {'' if count.sampled is None else 'a sample of '}"
            f"{count.sampled or count.rows} in {name}"
            for name, count in counts.items()
            if (number := getattr(count, kind))
        ]
        if parts:
            lines.append(f"{what}: {', '.join(parts)}")
    return lines


def input_counts(texts: Sequence[str], encoder: Encoder) -> TextCounts:
    """Counts texts that a user has typed or piped."""
    return TextCounts(len(texts), encoder.count_cut(texts), sum(not text.strip() for text in texts))


def input_notes(texts: Sequence[str], encoder: Encoder) -> list[str]:
    """Returns ``notes`` on texts that a user has typed or piped."""
    return notes({"the input": input_counts(texts, encoder)}, encoder.max_text_tokens)
