"""The effect table: each method compared with one other, a row per language."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerbridge.evaluation.comparison import ALPHA, AverageEffect, Comparison, LanguageEffect
from layerbridge.report.tables.grid import ABSENT, MARKS, ONE_SEED, Grid, signed

if TYPE_CHECKING:
    from layerbridge.report.tables.terminal import Fitted

_HEAD = ("method", "seeds", "language", "effect", "95 % interval", "p", "p (Holm)", "won / lost")
_COLUMNS = (
    *("method", "against", "seeds", "against_seeds", "paired_seeds", "language"),
    *("effect", "low", "high", "p", "p_holm", "mark", "rows", "won", "lost"),
)


@dataclass(frozen=True)
class EffectTable:
    """Effects in percentage points with 95 % intervals and p-values.

    Attributes:
        comparisons: one or more, all with the same method.
    """

    comparisons: tuple[Comparison, ...]

    def markdown(self) -> str:
        """Returns a GitHub table and its legend."""
        return self._grid().markdown()

    def csv(self) -> str:
        """Returns a line per method and language.

        The average over these languages is called ``average_fixed``, the one that holds for other
        languages too ``average``.
        """
        out = io.StringIO()
        write = csv.writer(out, lineterminator="\n").writerow
        write(_COLUMNS)
        for comparison in self.comparisons:
            seeds = len(comparison.seeds), len(comparison.against_seeds)
            paired = str(comparison.paired_seeds).lower()
            key = [comparison.method, comparison.against, *seeds, paired]
            effects: dict[str, LanguageEffect | AverageEffect | None] = {
                **comparison.languages,
                "average_fixed": comparison.average_fixed,
                "average": comparison.average,
            }
            for name, effect in effects.items():
                if effect is None:
                    continue
                numbers = [f"{value:.2f}" for value in (effect.effect, effect.low, effect.high)]
                p_holm = ""
                rows: tuple[object, ...] = ("", "", "")
                if isinstance(effect, LanguageEffect):
                    p_holm, rows = f"{effect.p_holm:.3g}", (effect.n, *effect.discordant)
                write([*key, name, *numbers, f"{effect.p:.3g}", p_holm, effect.mark or "", *rows])
        return out.getvalue()

    def latex(self) -> str:
        """Returns a booktabs tabular without a float."""
        return self._grid().latex()

    def rich(self) -> Fitted:
        """Returns a table for the terminal: a row per language, a column per method.

        It has the corrected p-values only, and no rows won and lost.
        """
        columns = [
            {"seeds": _seeds(comparison)}
            | {language: _cell(*cells) for language, *cells in _rows(comparison)}
            for comparison in self.comparisons
        ]
        names = list(dict.fromkeys(name for column in columns for name in column))
        body = [[name, *(column.get(name, ABSENT) for column in columns)] for name in names]
        head = ["language", *(comparison.method for comparison in self.comparisons)]
        form = "Effect (95 % interval), p; --format markdown has more."
        return Grid(head, body, 1, f"{self._legend('')} {form}").rich()

    def _grid(self) -> Grid:
        body = [
            [comparison.method, _seeds(comparison), *row]
            for comparison in self.comparisons
            for row in _rows(comparison)
        ]
        return Grid(list(_HEAD), body, 3, self._legend())

    def _legend(self, counts: str = "won / lost: rows.") -> str:
        several = [comparison.several_seeds for comparison in self.comparisons]
        legend = [f"Percentage points over {self.comparisons[0].against}."]
        if any(several):
            legend.append(
                f"{MARKS['better']} better, {MARKS['worse']} worse (p < {ALPHA}; Holm-corrected in "
                "a language)."
            )
        if counts:
            legend.append(counts)
        if not all(several):
            legend.append(ONE_SEED)
        if any(c.several_seeds and not c.other_seeds for c in self.comparisons):
            legend.append("The effects are those of these runs alone, not of other seeds.")
        return " ".join(legend)


def effect_table(comparisons: Sequence[Comparison]) -> EffectTable:
    """Puts the comparisons below each other."""
    return EffectTable(tuple(comparisons))


def _rows(comparison: Comparison) -> Iterator[list[str]]:
    for code, effect in comparison.languages.items():
        yield [code, *_text(effect), _p(effect.p_holm), "{} / {}".format(*effect.discordant)]
    if fixed := comparison.average_fixed:
        yield [f"average of {len(fixed.languages)}", *_text(fixed), ABSENT, ABSENT]
    if comparison.average:
        yield ["other languages too", *_text(comparison.average), ABSENT, ABSENT]


def _text(effect: LanguageEffect | AverageEffect) -> tuple[str, str, str]:
    interval = f"{signed(effect.low)} to {signed(effect.high)}"
    return signed(effect.effect) + MARKS[effect.mark], interval, _p(effect.p)


def _cell(effect: str, interval: str, p: str, p_holm: str, *_: str) -> str:
    return f"{effect} ({interval}) {p if p_holm == ABSENT else p_holm}"


def _seeds(comparison: Comparison) -> str:
    """The number of seeds: one number for pairs, two otherwise; and whether others are covered."""
    counts = len(comparison.seeds), len(comparison.against_seeds)
    text = str(counts[0]) if comparison.paired_seeds else "{} / {}".format(*counts)
    return text if comparison.several_seeds else f"{text} (others not covered)"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"
