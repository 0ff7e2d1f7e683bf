"""The accuracy table: a row per method, a column per language."""

from __future__ import annotations

import csv
import io
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
from layerbridge.evaluation.method_names import distinguish
from layerbridge.evaluation.results import Result
from layerbridge.evaluation.statistics.seeds import mean_of_seeds
from layerbridge.report.tables.grid import ABSENT, MARKS, ONE_SEED, Grid

if TYPE_CHECKING:
    from layerbridge.report.tables.terminal import Fitted

_LABELS: dict[str, Callable[[Result], str]] = {
    "method": lambda result: result.method,
    "seed": lambda result: str(result.seed),
    "run": lambda result: result.run or ABSENT,
    "created": lambda result: result.created,
}


@dataclass(frozen=True)
class Cell:
    """An accuracy with its 95 % interval, as proportions.

    Attributes:
        accuracy: the mean over seeds if the row pools several.
        low: lower end of the interval.
        high: upper end.
        p: p-value against the reference method; Holm-corrected in a language.
        mark: whether the method is significantly better or worse than the reference.
    """

    accuracy: float
    low: float
    high: float
    p: float | None = None
    mark: Mark | None = None


@dataclass(frozen=True)
class TableRow:
    """One method: its labels, a cell per language (None if not tested), and the average."""

    labels: tuple[str, ...]
    cells: tuple[Cell | None, ...]
    average: Cell | None


@dataclass(frozen=True)
class Table:
    """Accuracies in percent with one decimal, a row per method and a column per language.

    Attributes:
        labels: names of the label columns: the method, then its number of seeds or whatever tells
            rows of one method apart.
        languages: codes, English first.
        averaged: languages of the average: all but English that every row has.
        rows: in the order of the results.
        against: the reference method of the significance marks; None without marks.
        marked: which comparisons with it have several seeds: only those can have marks.
    """

    labels: tuple[str, ...]
    languages: tuple[str, ...]
    averaged: tuple[str, ...]
    rows: tuple[TableRow, ...]
    against: str | None = None
    marked: tuple[bool, ...] = ()

    def markdown(self, *, intervals: bool = False) -> str:
        """Returns a GitHub table.

        Args:
            intervals: show the interval of every language, not only that of the average.
        """
        return self._grid(intervals).markdown()

    def csv(self) -> str:
        """Returns a line per row, with accuracy, low and high of each language.

        With significance marks, each language also has p and the mark.
        """
        out = io.StringIO()
        write = csv.writer(out, lineterminator="\n").writerow
        columns = [*self.languages, *(["average"] if self.averaged else [])]
        suffixes = ["", "_low", "_high", *(["_p", "_mark"] if self.against else [])]
        write([*self.labels, *(column + suffix for column in columns for suffix in suffixes)])
        for row in self.rows:
            cells = [*row.cells, *([row.average] if self.averaged else [])]
            write([*row.labels, *(x for cell in cells for x in _fields(cell)[: len(suffixes)])])
        return out.getvalue()

    def latex(self, *, intervals: bool = False) -> str:
        """Returns a booktabs tabular without a float; ``intervals`` as in ``markdown``."""
        return self._grid(intervals).latex()

    def rich(self, *, intervals: bool = False) -> Fitted:
        """Returns a table for the terminal: a row per language, a column per method."""
        grid = self._grid(intervals)
        if self.averaged:
            # The interval in a row of its own, so that columns are narrow.
            *head, _ = grid.head
            head += [f"average of {len(self.averaged)}", "95 % interval"]
            body = [
                [*cells[:-1], _text(row.average, False), _interval(row.average)]
                for cells, row in zip(grid.body, self.rows, strict=True)
            ]
            grid = replace(grid, head=head, body=body)
        return replace(grid, turned=True).rich()

    def _grid(self, intervals: bool) -> Grid:
        head = [*self.labels, *self.languages]
        body = [[*row.labels, *(_text(cell, intervals) for cell in row.cells)] for row in self.rows]
        if self.averaged:
            head.append(f"average of {len(self.averaged)} (95 % interval)")
            for cells, row in zip(body, self.rows, strict=True):
                cells.append(_text(row.average, True))
        legend = []
        if any(self.marked):
            legend.append(
                f"{MARKS['better']} better, {MARKS['worse']} worse than {self.against} "
                f"(p < {ALPHA}). Languages: Holm-corrected. Average: holds for other languages too."
            )
        if not all(self.marked):
            legend.append(ONE_SEED)
        return Grid(head, body, len(self.labels), " ".join(legend) or None)


def accuracy_table(
    results: Sequence[Result], *, by_seed: bool = False, comparisons: Sequence[Comparison] = ()
) -> Table:
    """Puts results side by side.

    Several seeds of a method share one row: their mean, with an interval that covers other rows and
    other seeds. They keep a row each if a method has two different results with one seed, or
    different languages per seed.

    Args:
        results: of one task, split and protocol, on the same rows.
        by_seed: whether every result has a row of its own.
        comparisons: of the same results; significant effects are marked, if there are several
            seeds.

    Raises:
        ResultError: there are no results, or they cannot be compared; the message names the
            difference.
    """
    results = distinguish(results)
    check_comparable(results)
    languages, averaged = ordered_languages(results), averaged_languages(results)
    labels, labeled = labeled_methods(results, by_seed=by_seed)
    compared = {comparison.method: comparison for comparison in comparisons}
    rows = []
    for values, method in labeled:
        cells, average = _scores(method, averaged)
        if comparison := compared.get(method.name):
            effects = comparison.languages
            cells = {code: _marked(cell, effects.get(code)) for code, cell in cells.items()}
            average = average and _marked(average, comparison.average)
        rows.append(TableRow(values, tuple(cells.get(code) for code in languages), average))
    against = comparisons[0].against if comparisons else None
    marked = tuple(comparison.several_seeds for comparison in comparisons)
    return Table(labels, languages, averaged, tuple(rows), against, marked)


def labeled_methods(
    results: Sequence[Result], *, by_seed: bool
) -> tuple[tuple[str, ...], list[tuple[tuple[str, ...], Method]]]:
    """Returns the names of the label columns, and the labels and the method of each row."""
    pooled = [] if by_seed else _pooled(results)
    if pooled:
        several = max(len(method.seeds) for method in pooled) > 1
        names: tuple[str, ...] = ("method", "seeds") if several else ("method",)
        return names, [((m.name, str(len(m.seeds)))[: len(names)], m) for m in pooled]
    names = _distinguishing(results)
    return names, [
        (tuple(_LABELS[name](result) for name in names), Method(result.method, (result,)))
        for result in results
    ]


def _pooled(results: Sequence[Result]) -> list[Method]:
    """The methods with all their seeds; none if some cannot share a row."""
    if repeated_seed(results):
        return []
    pooled = list(methods(results).values())
    same = all(set(r.languages) == set(m.languages) for m in pooled for r in m.results)
    return pooled if same else []


def _distinguishing(results: Sequence[Result]) -> tuple[str, ...]:
    """The fewest label columns that tell the results apart."""
    labels = ["method"]
    for name in list(_LABELS)[1:]:
        if len({tuple(_LABELS[label](r) for label in labels) for r in results}) < len(results):
            labels.append(name)
    return tuple(labels)


def _scores(method: Method, averaged: Sequence[str]) -> tuple[dict[str, Cell], Cell | None]:
    """The cells of a method by language, and that of the average."""
    answers = {code: method.answers(code) for code in method.languages}
    cells = {code: Cell(*mean_of_seeds({code: answers[code]})) for code in answers}
    average = mean_of_seeds({code: answers[code] for code in averaged}) if averaged else None
    return cells, Cell(*average) if average else None


def _marked(cell: Cell, effect: LanguageEffect | AverageEffect | None) -> Cell:
    if effect is None:
        return cell
    p = effect.p_holm if isinstance(effect, LanguageEffect) else effect.p
    return replace(cell, p=p, mark=effect.mark)


def _text(cell: Cell | None, interval: bool) -> str:
    if cell is None:
        return ABSENT
    text = _percent(cell.accuracy) + MARKS[cell.mark]
    return f"{text} ({_interval(cell)})" if interval else text


def _interval(cell: Cell | None) -> str:
    return ABSENT if cell is None else f"{_percent(cell.low)}–{_percent(cell.high)}"


def _fields(cell: Cell | None) -> list[str]:
    if cell is None:
        return [""] * 5
    p = "" if cell.p is None else f"{cell.p:.2g}"
    return [*map(_percent, (cell.accuracy, cell.low, cell.high)), p, cell.mark or ""]


def _percent(proportion: float) -> str:
    return f"{100 * proportion:.1f}"
