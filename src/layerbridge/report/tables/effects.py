"""Effects below each other: each method against one other, a row a language."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerbridge.evaluation.comparison import ALPHA, AverageEffect, Comparison, LanguageEffect
from layerbridge.report.tables.grid import ABSENT, MARKS, Grid, signed

if TYPE_CHECKING:
    import rich.console

_HEAD = ("method", "seeds", "language", "effect", "95 % interval", "p", "p (Holm)", "won / lost")
_COLUMNS = (
    *("method", "against", "seeds", "against_seeds", "paired_seeds", "language"),
    *("effect", "low", "high", "p", "p_holm", "mark", "rows", "won", "lost"),
)


@dataclass(frozen=True)
class EffectTable:
    """Effects in percentage points with 95 % intervals and p-values.

    Attributes:
        comparisons: one or more, all against the same method.
    """

    comparisons: tuple[Comparison, ...]

    def markdown(self) -> str:
        """A GitHub table and its legend."""
        return self._grid().markdown()

    def csv(self) -> str:
        """A line a method and language.

        The mean over languages is ``average_fixed`` in these languages, and ``average`` if it is
        to hold in others too.
        """
        out = io.StringIO()
        write = csv.writer(out, lineterminator="\n").writerow
        write(_COLUMNS)
        for found in self.comparisons:
            seeds = (len(found.seeds), len(found.against_seeds), str(found.paired_seeds).lower())
            for code, effect in found.languages.items():
                numbers = [*_ends(effect), _number(effect.p), _number(effect.p_holm)]
                rows = [effect.mark or "", effect.n, *effect.discordant]
                write([found.method, found.against, *seeds, code, *numbers, *rows])
            for name in ("average_fixed", "average"):
                average = getattr(found, name)
                if average:
                    numbers = [*_ends(average), _number(average.p), "", average.mark or ""]
                    write([found.method, found.against, *seeds, name, *numbers, "", "", ""])
        return out.getvalue()

    def latex(self) -> str:
        """A booktabs tabular, without a float around it."""
        return self._grid().latex()

    def rich(self) -> rich.console.Group:
        """For the terminal: a table a method, which fits 80 columns."""
        from rich.console import Group
        from rich.text import Text

        grids = [
            Grid(
                list(_HEAD[2:]),
                list(_lines(found)),
                1,
                title=f"{found.method} over {found.against}, seeds: {_seeds(found)}",
            )
            for found in self.comparisons
        ]
        return Group(*(grid.rich() for grid in grids), Text(self._legend()))

    def _grid(self) -> Grid:
        body = [
            [found.method, _seeds(found), *cells]
            for found in self.comparisons
            for cells in _lines(found)
        ]
        return Grid(list(_HEAD), body, 3, self._legend())

    def _legend(self) -> str:
        legend = (
            f"Percentage points over {self.comparisons[0].against}; {MARKS['better']} better, "
            f"{MARKS['worse']} worse: p < {ALPHA}, in a language after Holm's correction. "
            "won / lost: rows."
        )
        if not self.comparisons[0].other_seeds:
            legend += " These runs alone: other seeds are not covered."
        elif any(min(len(c.seeds), len(c.against_seeds)) == 1 for c in self.comparisons):
            legend += " Of a method with one seed, other seeds are not covered."
        return legend


def effect_table(comparisons: Sequence[Comparison]) -> EffectTable:
    """Put what ``compare`` found below each other."""
    return EffectTable(tuple(comparisons))


def _lines(found: Comparison) -> Iterator[list[str]]:
    for code, effect in found.languages.items():
        rows = "{} / {}".format(*effect.discordant)
        yield [code, *_shown(effect), _p(effect.p_holm), rows]
    if found.average_fixed:
        name = f"average of {len(found.average_fixed.languages)}"
        yield [name, *_shown(found.average_fixed), ABSENT, ABSENT]
    if found.average:
        yield ["other languages too", *_shown(found.average), ABSENT, ABSENT]


def _shown(effect: LanguageEffect | AverageEffect) -> tuple[str, str, str]:
    low, high = signed(effect.low), signed(effect.high)
    return signed(effect.effect) + MARKS[effect.mark], f"{low} to {high}", _p(effect.p)


def _seeds(found: Comparison) -> str:
    """How many: one number where they are pairs."""
    counts = len(found.seeds), len(found.against_seeds)
    return str(counts[0]) if found.paired_seeds else "{} / {}".format(*counts)


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _ends(effect: LanguageEffect | AverageEffect) -> list[str]:
    return [f"{value:.2f}" for value in (effect.effect, effect.low, effect.high)]


def _number(p: float) -> str:
    return f"{p:.3g}"
