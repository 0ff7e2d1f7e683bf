"""Accuracy by language: the accuracy table as a picture, a mark a row of it, English apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from layerbridge.evaluation.results import CLASSIFIER, Result
from layerbridge.report.plots import style
from layerbridge.report.tables import Table, TableRow, accuracy_table
from layerbridge.tasks.languages import names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure(
    results: Sequence[Result],
    *,
    width: float = style.WIDE,
    numbers: Mapping[str, int] | None = None,
) -> Figure:
    """As ``plots.accuracy_by_language`` says.

    Args:
        results: of one task, split and protocol, on the same rows.
        width: in inches.
        numbers: method → its number among colours and markers; None counts those drawn here.

    Raises:
        ResultError: there are no results, or they cannot be compared.
    """
    table = accuracy_table(results)
    floors = {result.method for result in results if result.protocol == CLASSIFIER}
    drawn = [row for row in table.rows if row.labels[0] not in floors]
    ticks = [row for row in table.rows if row.labels[0] in floors]
    place = _places(table, drawn or ticks)
    # Rows of one method, where its seeds are apart, need colours of their own.
    alone = len({row.labels[0] for row in drawn}) == len(drawn)

    height = 1.35 + (0.17 + 0.07 * max(1, len(drawn))) * (len(place) + 0.5)
    with style.settings():
        made, axes = style.figure(width, height)
        _languages_axis(axes, place, f"({results[0].task}, {results[0].split} rows)")
        axes.axvline(
            100 * chance(results), color=style.GREY, lw=1.2, ls=":", label="chance", zorder=1
        )
        for row in ticks:
            shown = [(cell, code) for cell, code in _cells(row, table)]
            axes.plot(
                [100 * cell.accuracy for cell, _ in shown],
                [place[code] for _, code in shown],
                ls="none",
                marker="|",
                ms=16,
                mew=2,
                color=style.GREY,
                label=_label(row, table),
            )
        step = min(0.22, 0.7 / max(1, len(drawn)))
        for count, row in enumerate(drawn):
            shift = (count - (len(drawn) - 1) / 2) * step
            number = count if numbers is None or not alone else numbers[row.labels[0]]
            bars = [
                (place[code] + shift, 100 * cell.accuracy, 100 * cell.low, 100 * cell.high)
                for cell, code in _cells(row, table)
            ]
            style.bars(axes, bars, number=number, label=_label(row, table))
        style.legend(made, axes, last=[*(_label(row, table) for row in ticks), "chance"])
    return made


def chance(results: Iterable[Result]) -> float:
    """One over the number of labels that there are."""
    labels = {
        answer.label
        for result in results
        for entry in result.languages.values()
        for answer in entry.predictions
    }
    return 1 / len(labels)


def _places(table: Table, rows: Sequence[TableRow]) -> dict[str, float]:
    """Where each language stands: by the mean accuracy of the rows, the best on top."""

    def mean(code: str) -> float:
        found = [cell.accuracy for row in rows for cell, of in _cells(row, table) if of == code]
        return style.mean(found) if found else 0.0

    english = ["en"] if "en" in table.languages else []
    others = [code for code in table.languages if code != "en"]
    order = english + sorted(others, key=mean, reverse=True)
    # English stands apart: the methods were trained on it.
    return {code: i + (0.45 if code != "en" and english else 0) for i, code in enumerate(order)}


def _cells(row: TableRow, table: Table) -> list:
    pairs = zip(row.cells, table.languages, strict=True)
    return [(cell, code) for cell, code in pairs if cell is not None]


def _label(row: TableRow, table: Table) -> str:
    """A row's labels as a legend tells them: ``last (3 seeds)``, or ``last, seed 0``."""
    method, *others = row.labels
    name = style.words(method)
    if table.labels == ("method", "seeds"):
        return name if others == ["1"] else f"{name} ({others[0]} seeds)"
    told = [f"{what} {value}" for what, value in zip(table.labels[1:], others, strict=True)]
    return style.words(", ".join([name, *told]))


def _languages_axis(axes: Axes, place: dict[str, float], what: str) -> None:
    style.rows(axes, place, names(place))
    axes.set_ylim(max(place.values()) + 0.6, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel(style.words(f"accuracy, % {what}"))
    for y in list(place.values())[1::2]:
        axes.axhspan(y - 0.5, y + 0.5, color=style.BAND, zorder=0, lw=0)
    if "en" in place and len(place) > 1:
        axes.axhline(0.72, color=style.GREY, lw=0.8)
