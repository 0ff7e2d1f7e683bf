"""Our accuracies beside the paper's, and how far they are apart. Knows results, not runs."""

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
class Beside:
    """One number of ours and one of the paper's, in per cent.

    Attributes:
        method: whose.
        what: a language's code, or ``average of 15``.
        here: our accuracy; None where it was not measured on the same languages.
        low: lower end of its 95 % interval.
        high: upper end.
        paper: the paper's.
    """

    method: str
    what: str
    here: float | None
    low: float | None
    high: float | None
    paper: float

    @property
    def difference(self) -> float | None:
        """Ours less the paper's, in percentage points."""
        return None if self.here is None else self.here - self.paper


def beside(results: Sequence[Result], paper: Accuracies) -> list[Beside]:
    """Every number of the paper's that is known here, with ours.

    The paper's average is over all its languages, English among them, so ours is here, too; in
    tables of layerbridge's English is left out of it.
    """
    found = methods(results)
    made: list[Beside] = []
    for name, number in paper.averages.items():
        codes = paper.averaged or ()
        what = f"average of {len(codes)}"
        made.append(_one(found.get(name), name, what, codes, number))
    for name, numbers in paper.languages.items():
        made += [_one(found.get(name), name, code, (code,), n) for code, n in numbers.items()]
    return made


def grid(rows: Sequence[Beside]) -> Grid:
    """As a table."""
    body = []
    for row in rows:
        here = difference = ABSENT
        if row.here is not None:
            here = f"{row.here:.1f} ({row.low:.1f}–{row.high:.1f})"
            difference = signed(row.difference or 0.0)
        body.append([row.method, row.what, here, f"{row.paper:.2f}", difference])
    return Grid(HEAD, body, 2)


def _one(method: Method | None, name: str, what: str, codes: Sequence[str], paper: float) -> Beside:
    if method is None or not codes or not set(codes) <= set(method.languages):
        return Beside(name, what, None, None, None, paper)
    if len(method.results) == 1:
        entries = {code: method.results[0].languages[code] for code in codes}
        ours = mean_of_languages({code: (e.correct, e.n) for code, e in entries.items()})
    else:
        ours = mean_of_seeds({code: method.answers(code) for code in codes})
    here, low, high = (100 * value for value in ours)
    return Beside(name, what, here, low, high, paper)
