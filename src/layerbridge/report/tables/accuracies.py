"""Accuracies side by side: a row a method, a column a language."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from layerbridge.evaluation.comparison import (
    ALPHA,
    AverageEffect,
    Comparison,
    LanguageEffect,
    Mark,
    Method,
    averaged_languages,
    check_comparable,
    methods,
    ordered_languages,
    repeated_seed,
)
from layerbridge.evaluation.results import Result
from layerbridge.evaluation.statistics.seeds import mean_of_seeds
from layerbridge.report.tables.grid import ABSENT, MARKS, Grid

if TYPE_CHECKING:
    import rich.table

_Label = Callable[[Result], str]

_WIDE = 8
_MORE_LABELS: dict[str, _Label] = {
    "seed": lambda result: str(result.seed),
    "run": lambda result: result.run or ABSENT,
    "created": lambda result: result.created,
}


@dataclass(frozen=True)
class Cell:
    """An accuracy and its 95 % interval, as proportions.

    Attributes:
        accuracy: the mean, where several seeds are one row.
        low: lower end of the interval.
        high: upper end.
        p: against the method that the table marks; after Holm's correction in a language.
        mark: significantly better or worse than that method.
    """

    accuracy: float
    low: float
    high: float
    p: float | None = None
    mark: Mark | None = None


@dataclass(frozen=True)
class TableRow:
    """One method: its labels, a cell a language (None where it was not tested), the average."""

    labels: tuple[str, ...]
    cells: tuple[Cell | None, ...]
    average: Cell | None


@dataclass(frozen=True)
class Table:
    """Accuracies in percent with one decimal, a row a method and a column a language.

    Attributes:
        labels: heads of the label columns: the method, and what tells its rows apart or how many
            seeds they are of.
        languages: codes, English first.
        averaged: the languages behind the average: those other than English that every row has.
        rows: in the order of the results.
        against: the method that cells are marked against; None where nothing is marked.
    """

    labels: tuple[str, ...]
    languages: tuple[str, ...]
    averaged: tuple[str, ...]
    rows: tuple[TableRow, ...]
    against: str | None = None

    def markdown(self, *, intervals: bool = False) -> str:
        """A GitHub table; the average with its interval, the languages with theirs if asked."""
        return self._grid(intervals).markdown()

    def csv(self) -> str:
        """A line a row; each language has three columns: accuracy, low and high.

        Two more where cells are marked: p, and better, worse or nothing.
        """
        out = io.StringIO()
        write = csv.writer(out, lineterminator="\n").writerow
        columns = [*self.languages, *(["average"] if self.averaged else [])]
        ends = ["", "_low", "_high", *(["_p", "_mark"] if self.against else [])]
        write([*self.labels, *(f"{column}{end}" for column in columns for end in ends)])
        for row in self.rows:
            cells = [*row.cells, *([row.average] if self.averaged else [])]
            numbers = [text for cell in cells for text in _numbers(cell)[: len(ends)]]
            write([*row.labels, *numbers])
        return out.getvalue()

    def latex(self, *, intervals: bool = False) -> str:
        """A booktabs tabular, without a float around it."""
        return self._grid(intervals).latex()

    def rich(self, *, intervals: bool = False) -> rich.table.Table:
        """A table for the terminal: as the others, or turned round for more than eight languages.

        A terminal of 80 columns has no room for fifteen languages side by side.
        """
        grid = self._grid(intervals)
        return (grid.turned() if len(self.languages) > _WIDE else grid).rich()

    def _grid(self, intervals: bool) -> Grid:
        average = [f"average of {len(self.averaged)} (95 % interval)"] if self.averaged else []
        body = [
            [
                *row.labels,
                *(_shown(cell, intervals) for cell in row.cells),
                *([_shown(row.average, True)] if self.averaged else []),
            ]
            for row in self.rows
        ]
        legend = None
        if self.against:
            legend = (
                f"{MARKS['better']} better, {MARKS['worse']} worse than {self.against}, "
                f"p < {ALPHA}: a language after Holm's correction, the average over languages too."
            )
        return Grid([*self.labels, *self.languages, *average], body, len(self.labels), legend)


def accuracy_table(
    results: Sequence[Result], *, by_seed: bool = False, comparisons: Sequence[Comparison] = ()
) -> Table:
    """Put results side by side.

    Several seeds of a method are one row: their mean, with an interval that covers other rows and
    other seeds. They stay rows of their own where a method has two results of one seed, or not the
    same languages for every seed.

    Args:
        results: what ``check_comparable`` lets pass.
        by_seed: a row for every result instead.
        comparisons: of the same results; their significant effects are marked.

    Raises:
        ResultError: there are no results, or they cannot be compared; the difference is named.
    """
    results = list(results)
    check_comparable(results)
    languages, averaged = ordered_languages(results), averaged_languages(results)
    together = [] if by_seed else _together(results)
    if together:
        several = max(len(method.seeds) for method in together) > 1
        labels: tuple[str, ...] = ("method", "seeds") if several else ("method",)
        rows = [
            _row((method.name, str(len(method.seeds)))[: len(labels)], method, languages, averaged)
            for method in together
        ]
    else:
        label = _labels(results)
        labels = tuple(label)
        rows = [
            _row(
                tuple(of(result) for of in label.values()),
                Method(result.method, (result,)),
                languages,
                averaged,
            )
            for result in results
        ]
    marked = {comparison.method: comparison for comparison in comparisons}
    rows = [_marked(row, languages, marked.get(row.labels[0])) for row in rows]
    against = comparisons[0].against if comparisons else None
    return Table(labels, languages, averaged, tuple(rows), against)


def _together(results: Sequence[Result]) -> list[Method]:
    """The methods with their seeds; none if some cannot be put into one row."""
    if repeated_seed(results):
        return []
    found = list(methods(results).values())
    if any(set(r.languages) != set(m.languages) for m in found for r in m.results):
        return []
    return found


def _row(
    labels: tuple[str, ...], method: Method, languages: Sequence[str], averaged: Sequence[str]
) -> TableRow:
    if len(method.results) == 1:
        (result,) = method.results
        found = [result.languages.get(code) for code in languages]
        cells = [
            None if entry is None else Cell(entry.accuracy, *entry.interval) for entry in found
        ]
        average = Cell(*result.average_non_english(averaged)[:3]) if averaged else None
        return TableRow(labels, tuple(cells), average)
    answers = {code: method.answers(code) for code in method.languages}
    cells = [
        Cell(*mean_of_seeds({code: answers[code]})) if code in answers else None
        for code in languages
    ]
    average = Cell(*mean_of_seeds({code: answers[code] for code in averaged})) if averaged else None
    return TableRow(labels, tuple(cells), average)


def _marked(row: TableRow, languages: Sequence[str], comparison: Comparison | None) -> TableRow:
    if comparison is None:
        return row
    cells = [
        _with_effect(cell, comparison.languages.get(code))
        for code, cell in zip(languages, row.cells, strict=True)
    ]
    return replace(row, cells=tuple(cells), average=_with_effect(row.average, comparison.average))


def _with_effect(cell: Cell | None, effect: LanguageEffect | AverageEffect | None) -> Cell | None:
    if cell is None or effect is None:
        return cell
    p = effect.p_holm if isinstance(effect, LanguageEffect) else effect.p
    return replace(cell, p=p, mark=effect.mark)


def _labels(results: Sequence[Result]) -> dict[str, _Label]:
    """The label columns that tell the results apart: no more than are needed."""
    labels: dict[str, _Label] = {"method": lambda result: result.method}
    for name, more in _MORE_LABELS.items():
        counts = Counter(tuple(label(result) for label in labels.values()) for result in results)
        if max(counts.values()) > 1:
            labels[name] = more
    return labels


def _shown(cell: Cell | None, interval: bool) -> str:
    if cell is None:
        return ABSENT
    shown = _percent(cell.accuracy) + MARKS[cell.mark]
    return f"{shown} ({_percent(cell.low)}–{_percent(cell.high)})" if interval else shown


def _numbers(cell: Cell | None) -> list[str]:
    if cell is None:
        return [""] * 5
    p = "" if cell.p is None else f"{cell.p:.2g}"
    return [*map(_percent, (cell.accuracy, cell.low, cell.high)), p, cell.mark or ""]


def _percent(proportion: float) -> str:
    return f"{100 * proportion:.1f}"
