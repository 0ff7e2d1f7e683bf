"""Our accuracies and the paper's, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from layerbridge.evaluation.comparison import Method, methods
from layerbridge.evaluation.results import Result
from layerbridge.evaluation.statistics.proportions import mean_of_languages
from layerbridge.evaluation.statistics.seeds import mean_of_seeds
from layerbridge.report.tables.grid import ABSENT, Grid, signed
from layerbridge.reproducing.paper import Accuracies

HEAD = ["method", "accuracy", "here (95 % interval)", "paper", "difference"]


@dataclass(frozen=True)
class PaperComparison:
    """One of our numbers and the paper's, in per cent.

    Attributes:
        method: name.
        what: a language's code, or ``average of 15``.
        here: our accuracy; None if it was not measured on the same languages.
        low: lower end of its 95 % interval.
        high: upper end.
        paper: the paper's accuracy.
    """

    method: str
    what: str
    here: float | None
    low: float | None
    high: float | None
    paper: float

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, in percentage points."""
        return None if self.here is None else self.here - self.paper


def compare_with_paper(results: Sequence[Result], paper: Accuracies) -> list[PaperComparison]:
    """Compares every known number of the paper with ours.

    The paper averages over all its languages, including English. So does ``here``, unlike
    layerbridge's own tables.
    """
    ours = methods(results)
    codes = paper.averaged or ()
    numbers = [
        (name, f"average of {len(codes)}", codes, number) for name, number in paper.averages.items()
    ] + [
        (name, code, (code,), number)
        for name, languages in paper.languages.items()
        for code, number in languages.items()
    ]
    return [
        PaperComparison(name, what, *_accuracy(ours.get(name), codes), number)
        for name, what, codes, number in numbers
    ]


def comparison_grid(rows: Sequence[PaperComparison]) -> Grid:
    """Returns the comparisons as a table."""
    body = []
    for row in rows:
        here = difference = ABSENT
        if row.here is not None:
            here = f"{row.here:.1f} ({row.low:.1f}–{row.high:.1f})"
            difference = signed(row.difference or 0.0)
        body.append([row.method, row.what, here, f"{row.paper:.2f}", difference])
    return Grid(HEAD, body, 2)


def _accuracy(
    method: Method | None, codes: Sequence[str]
) -> tuple[float | None, float | None, float | None]:
    """Returns our accuracy on these languages, and its interval."""
    if method is None or not codes or not set(codes) <= set(method.languages):
        return None, None, None
    if len(method.results) == 1:
        entries = {code: method.results[0].languages[code] for code in codes}
        ours = mean_of_languages({code: (e.correct, e.n) for code, e in entries.items()})
    else:
        ours = mean_of_seeds({code: method.answers(code) for code in codes})
    accuracy, low, high = ours
    return 100 * accuracy, 100 * low, 100 * high
