"""The macro-F1 table: as the accuracy table, with the mean F1 of the labels in each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from layerbridge.evaluation.comparison import (
    Method,
    averaged_languages,
    check_comparable,
    ordered_languages,
)
from layerbridge.evaluation.method_names import distinguish
from layerbridge.evaluation.results import Result
from layerbridge.report.tables.accuracies import labeled_methods
from layerbridge.report.tables.grid import ABSENT, Grid

# The rows of the most frequent label over those of the rarest.
UNBALANCED = 1.5


def macro_f1_table(results: Sequence[Result], *, by_seed: bool = False) -> Grid:
    """Puts results side by side, in percent: means over seeds, without intervals.

    Args:
        results: of one task, split and protocol, on the same rows.
        by_seed: whether every result has a row of its own.

    Raises:
        ResultError: there are no results, or they cannot be compared.
    """
    results = distinguish(results)
    check_comparable(results)
    languages, averaged = ordered_languages(results), averaged_languages(results)
    labels, labeled = labeled_methods(results, by_seed=by_seed)
    head = [*labels, *languages, *([f"average of {len(averaged)}"] if averaged else [])]
    body = []
    for values, method in labeled:
        scores = {code: _mean(method, code) for code in method.languages}
        cells = [scores.get(code) for code in languages]
        cells += [fmean(scores[code] for code in averaged)] if averaged else []
        body.append([*values, *(ABSENT if x is None else f"{100 * x:.1f}" for x in cells)])
    legend = "Macro-F1 in percent: the mean F1 of the labels."
    return Grid(head, body, len(labels), legend, turned=True)


def unbalanced(results: Sequence[Result]) -> bool:
    """Returns whether a label has 1.5 times as many rows as another, in any language."""
    for result in results:
        for entry in result.languages.values():
            counts = Counter(answer.label for answer in entry.predictions).values()
            if max(counts) > UNBALANCED * min(counts):
                return True
    return False


def _mean(method: Method, code: str) -> float:
    return fmean(result.languages[code].macro_f1 for result in method.results)
