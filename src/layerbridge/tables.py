"""Tables of accuracies from result files: Markdown, CSV, LaTeX, and the terminal.

Reads results, never models. Only what was measured on the same rows in the same way goes into one
table; anything else is refused.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerbridge.errors import ResultError
from layerbridge.results import CLASSIFIER, Average, Result

if TYPE_CHECKING:
    import rich.table

_Label = Callable[[Result], str]

_ABSENT = "–"
_WIDE = 8
_MORE_LABELS: dict[str, _Label] = {
    "seed": lambda result: str(result.seed),
    "run": lambda result: result.run or _ABSENT,
    "created": lambda result: result.created,
}
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


@dataclass(frozen=True)
class Cell:
    """An accuracy and its 95 % interval, as proportions."""

    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class TableRow:
    """One result: its labels, a cell a language (None where it was not tested), the average."""

    labels: tuple[str, ...]
    cells: tuple[Cell | None, ...]
    average: Cell | None


@dataclass(frozen=True)
class Table:
    """Accuracies in percent with one decimal, a row a result and a column a language.

    Attributes:
        labels: heads of the label columns: the method, and the seed where methods repeat.
        languages: codes, English first.
        averaged: the languages behind the average: those other than English that every row has.
        rows: in the order of the results.
    """

    labels: tuple[str, ...]
    languages: tuple[str, ...]
    averaged: tuple[str, ...]
    rows: tuple[TableRow, ...]

    def markdown(self, *, intervals: bool = False) -> str:
        """A GitHub table; the average with its interval, the languages with theirs if asked."""
        lines = [self._head(), ["---"] * len(self.labels) + ["---:"] * self._numbers()]
        lines += self._body(intervals)
        return "".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
        )

    def csv(self) -> str:
        """A line a result; each language has three columns: accuracy, low and high."""
        out = io.StringIO()
        write = csv.writer(out, lineterminator="\n").writerow
        columns = [*self.languages, *(["average"] if self.averaged else [])]
        write(
            [
                *self.labels,
                *(f"{column}{end}" for column in columns for end in ("", "_low", "_high")),
            ]
        )
        for row in self.rows:
            cells = [*row.cells, *([row.average] if self.averaged else [])]
            numbers = [
                _percent(getattr(cell, end)) if cell else ""
                for cell in cells
                for end in ("accuracy", "low", "high")
            ]
            write([*row.labels, *numbers])
        return out.getvalue()

    def latex(self, *, intervals: bool = False) -> str:
        """A booktabs tabular, without a float around it."""
        columns = "l" * len(self.labels) + "r" * self._numbers()
        head, *body = [
            " & ".join(cell.translate(_LATEX).replace("–", "--") for cell in line) + r" \\"
            for line in [self._head(), *self._body(intervals)]
        ]
        lines = [
            rf"\begin{{tabular}}{{{columns}}}",
            *(r"\toprule", head, r"\midrule", *body, r"\bottomrule"),
            r"\end{tabular}",
        ]
        return "\n".join(lines) + "\n"

    def rich(self, *, intervals: bool = False) -> rich.table.Table:
        """A table for the terminal: as the others, or turned round for more than eight languages.

        A terminal of 80 columns has no room for fifteen languages side by side.
        """
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        head, *body = [self._head(), *self._body(intervals)]
        left = len(self.labels)
        if len(self.languages) > _WIDE:
            head, *body = [list(line) for line in zip(head, *body, strict=True)]
            left = 1
        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for position, name in enumerate(head):
            table.add_column(
                Text(name), justify="left" if position < left else "right", overflow="fold"
            )
        for line in body:
            # Text and not str: a method's name may hold what rich reads as markup.
            table.add_row(*(Text(cell) for cell in line))
        return table

    def _numbers(self) -> int:
        return len(self.languages) + bool(self.averaged)

    def _head(self) -> list[str]:
        average = [f"average of {len(self.averaged)} (95 % interval)"] if self.averaged else []
        return [*self.labels, *self.languages, *average]

    def _body(self, intervals: bool) -> list[list[str]]:
        return [
            [
                *row.labels,
                *(_shown(cell, intervals) for cell in row.cells),
                *([_shown(row.average, True)] if self.averaged else []),
            ]
            for row in self.rows
        ]


def accuracy_table(results: Sequence[Result]) -> Table:
    """Put results side by side.

    They must be of one task and one split, and in each language have the same rows with the same
    labels. They must have one protocol, too, with one exception: results with the protocol
    ``classifier`` are baselines without a language model, which cannot be asked in another way, and
    may stand beside any protocol.

    Raises:
        ResultError: there are no results, or they cannot be compared; the difference is named.
    """
    results = list(results)
    check_comparable(results)
    languages = ordered_languages(results)
    averaged = tuple(
        code
        for code in languages
        if code != "en" and all(code in result.languages for result in results)
    )
    labels = _labels(results)
    rows = []
    for result in results:
        found = [result.languages.get(code) for code in languages]
        cells = tuple(
            None if entry is None else Cell(entry.accuracy, *entry.interval) for entry in found
        )
        average = _average(result.average_non_english(averaged)) if averaged else None
        rows.append(TableRow(tuple(label(result) for label in labels.values()), cells, average))
    return Table(tuple(labels), languages, averaged, tuple(rows))


def check_comparable(results: Sequence[Result]) -> None:
    """Refuse results that were not measured on the same rows in the same way.

    Raises:
        ResultError: as ``accuracy_table`` says.
    """
    if not results:
        raise ResultError("there are no results to compare", allowed="one or more")
    first = results[0]
    for other in results[1:]:
        for name in ("task", "split"):
            _same(name, first, other)
    asked = [result for result in results if result.protocol != CLASSIFIER]
    for other in asked[1:]:
        _same("protocol", asked[0], other)
    seen: dict[str, Result] = {}
    for result in results:
        for code in result.languages:
            _same_rows(code, seen.setdefault(code, result), result)


def ordered_languages(results: Sequence[Result]) -> tuple[str, ...]:
    """All languages of the results in order of appearance, English first."""
    codes = dict.fromkeys(code for result in results for code in result.languages)
    return tuple(sorted(codes, key=lambda code: code != "en"))


def _same(name: str, first: Result, other: Result) -> None:
    given = getattr(first, name), getattr(other, name)
    if given[0] != given[1]:
        raise ResultError(
            f"{first.method} has the {name} {given[0]!r} and {other.method} {given[1]!r}",
            allowed=f"one {name} a table",
            hint=f"make one table for each {name}",
        )


def _same_rows(code: str, first: Result, other: Result) -> None:
    rows = [
        {answer.id: answer.label for answer in result.languages[code].predictions}
        for result in (first, other)
    ]
    if rows[0] == rows[1]:
        return
    differing = next(key for key in [*rows[0], *rows[1]] if rows[0].get(key) != rows[1].get(key))
    told = [
        f"label {labels[differing]!r}" if differing in labels else "no such row" for labels in rows
    ]
    raise ResultError(
        f"{first.method} and {other.method} were tested on different rows in {code}: "
        f"{len(rows[0])} and {len(rows[1])}; row {differing!r}: {told[0]} and {told[1]}",
        allowed="the same rows for every result",
        hint="evaluate both with the same task, options and versions",
    )


def _labels(results: Sequence[Result]) -> dict[str, _Label]:
    """The label columns that tell the results apart: no more than are needed."""
    labels: dict[str, _Label] = {"method": lambda result: result.method}
    for name, more in _MORE_LABELS.items():
        counts = Counter(tuple(label(result) for label in labels.values()) for result in results)
        if max(counts.values()) > 1:
            labels[name] = more
    return labels


def _average(average: Average) -> Cell:
    return Cell(average.accuracy, average.low, average.high)


def _shown(cell: Cell | None, interval: bool) -> str:
    if cell is None:
        return _ABSENT
    shown = _percent(cell.accuracy)
    return f"{shown} ({_percent(cell.low)}–{_percent(cell.high)})" if interval else shown


def _percent(proportion: float) -> str:
    return f"{100 * proportion:.1f}"
