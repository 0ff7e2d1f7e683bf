"""Accuracy by language: the accuracy table as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from layerbridge.evaluation.method_names import distinguish
from layerbridge.evaluation.results import CLASSIFIER, Result
from layerbridge.report.plots import style
from layerbridge.report.plots.output import Plot
from layerbridge.report.plots.palette import palette_of
from layerbridge.report.tables.accuracies import Cell, Table, TableRow, accuracy_table
from layerbridge.tasks.languages import names

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@Plot
def accuracy_by_language(
    results: Sequence[Result],
    *,
    width: float = style.WIDE,
    palette: Mapping[str, int] | None = None,
) -> Figure:
    """Draws each method's accuracy in each language with its 95 % interval.

    Each row of the accuracy table is a mark, so several seeds of a method share one. Languages are
    sorted by mean accuracy, English set apart. Baselines (protocol ``classifier``) are grey ticks,
    chance level (one over the number of labels) is a dotted line.

    Args:
        results: of one task, split and protocol, on the same rows.
        width: in inches.
        palette: index of each method's color and marker; None takes ``palette_of``.

    Raises:
        ResultError: there are no results, or they cannot be compared.
    """
    results = distinguish(results)
    palette = palette or palette_of(results)
    table = accuracy_table(results)
    baselines = {result.method for result in results if result.protocol == CLASSIFIER}
    drawn = [row for row in table.rows if row.labels[0] not in baselines]
    ticks = [row for row in table.rows if row.labels[0] in baselines]
    positions = _positions(table, drawn or ticks)
    height = 1.35 + (0.17 + 0.07 * max(1, len(drawn))) * (len(positions) + 0.5)
    figure, axes = style.figure(width, height)
    style.rows(axes, positions, names(positions))
    axes.set_ylim(max(positions.values()) + 0.6, -0.6)
    for y in [*positions.values()][1::2]:
        axes.axhspan(y - 0.5, y + 0.5, color=style.BAND, zorder=0, lw=0)
    if "en" in positions and len(positions) > 1:
        axes.axhline(0.72, color=style.GREY, lw=0.8)
    axes.set_xlim(0, 100)
    axes.set_xlabel(style.label(f"accuracy, % ({results[0].task}, {results[0].split} rows)"))
    axes.axvline(
        100 * chance_level(results), color=style.GREY, lw=1.2, ls=":", label="chance", zorder=1
    )
    for row in ticks:
        cells = _cells(row, table)
        axes.plot(
            [100 * cell.accuracy for cell in cells.values()],
            [positions[code] for code in cells],
            ls="none",
            marker="|",
            ms=16,
            mew=2,
            color=style.GREY,
            label=_label(row, table),
        )
    # If seeds have rows of their own, a method has several rows, which need different colors.
    unique = len({row.labels[0] for row in drawn}) == len(drawn)
    for index, (row, offset) in enumerate(zip(drawn, style.offsets(len(drawn)), strict=True)):
        points = [
            (positions[code] + offset, 100 * cell.accuracy, 100 * cell.low, 100 * cell.high)
            for code, cell in _cells(row, table).items()
        ]
        color = palette[row.labels[0]] if unique else index
        style.error_bars(axes, points, index=color, label=_label(row, table))
    style.legend(axes, last=[*(_label(row, table) for row in ticks), "chance"])
    return figure


def chance_level(results: Sequence[Result]) -> float:
    """Returns one over the number of labels in the results."""
    entries = [entry for result in results for entry in result.languages.values()]
    return 1 / len({answer.label for entry in entries for answer in entry.predictions})


def _positions(table: Table, rows: Sequence[TableRow]) -> dict[str, float]:
    """The vertical position of each language: the highest mean accuracy of the rows on top."""
    cells = [_cells(row, table) for row in rows]
    means = {
        code: fmean([of_row[code].accuracy for of_row in cells if code in of_row] or [0.0])
        for code in table.languages
    }
    order = sorted(table.languages, key=lambda code: (code != "en", -means[code]))
    # English is set apart: methods are trained on it.
    apart = 0.45 if order[0] == "en" else 0.0
    return {code: i + (apart if i else 0.0) for i, code in enumerate(order)}


def _cells(row: TableRow, table: Table) -> dict[str, Cell]:
    pairs = zip(table.languages, row.cells, strict=True)
    return {code: cell for code, cell in pairs if cell is not None}


def _label(row: TableRow, table: Table) -> str:
    """The legend entry of a row: ``last (3 seeds)``, or ``last, seed 0``."""
    method, *values = row.labels
    method = style.label(method)
    if table.labels == ("method", "seeds"):
        return method if values == ["1"] else f"{method} ({values[0]} seeds)"
    pairs = zip(table.labels[1:], values, strict=True)
    return style.label(", ".join([method, *(f"{name} {value}" for name, value in pairs)]))
