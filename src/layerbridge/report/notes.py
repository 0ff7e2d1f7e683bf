"""A report in a few sentences: what came out, and how far it can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from layerbridge.evaluation.comparison import Comparison
from layerbridge.evaluation.results import Result
from layerbridge.report.tables import Table
from layerbridge.report.words import interval, points


def notes(
    table: Table,
    comparisons: Sequence[Comparison],
    results: Sequence[Result],
    weights: Sequence[Mapping[str, Sequence[float]]],
) -> tuple[str, ...]:
    """The sentences.

    Args:
        table: of accuracies.
        comparisons: of the methods in it.
        results: behind them.
        weights: mean weight of each layer by method, encoders of different depth apart.
    """
    told = [*_best(table, comparisons), *_seeds(results)]
    others = {code for result in results for code in result.languages} - {"en"}
    if len(others) > len(table.averaged):
        told.append(
            f"Not every result has every language: the average is over {len(table.averaged)} of "
            f"{len(others)}."
        )
    heaviest = [
        f"{method} {row.index(max(row)) + 1} of {len(row)} ({max(row):.2f})"
        for of_encoder in weights
        for method, row in ((method, list(row)) for method, row in of_encoder.items())
        # A weight of 1 was not learned, and equal ones have no largest.
        if max(row) - min(row) > 1e-6 and max(row) < 1
    ]
    if heaviest:
        told.append(f"The layer with the largest mean weight: {', '.join(heaviest)}.")
    return tuple(told)


def _best(table: Table, comparisons: Sequence[Comparison]) -> list[str]:
    scored = [(row.labels[0], row.average) for row in table.rows if row.average is not None]
    if len(scored) < 2:
        return []
    method, average = max(scored, key=lambda pair: pair[1].accuracy)
    told = f"Best on average: {method}, {100 * average.accuracy:.1f} %"
    for found in comparisons:
        fixed = found.average_fixed
        if found.method == method and fixed is not None:
            told += (
                f"; {points(fixed.effect)} points over {found.against} on the same rows "
                f"(95 % interval {interval(fixed.low, fixed.high)}"
            )
            if found.average is not None:
                told += (
                    f", for other languages too {interval(found.average.low, found.average.high)}"
                )
            told += ")"
    return [f"{told}."]


def _seeds(results: Sequence[Result]) -> list[str]:
    seeds: dict[str, set[int]] = {}
    for result in results:
        seeds.setdefault(result.method, set()).add(result.seed)
    if all(len(of_method) == 1 for of_method in seeds.values()):
        return ["One seed of each method: what another seed would change is in no interval here."]
    counts = ", ".join(f"{method} {len(of_method)}" for method, of_method in seeds.items())
    return [
        f"Seeds: {counts}. Where a method has several, its intervals cover other seeds too; with "
        "few of them they are wide."
    ]
