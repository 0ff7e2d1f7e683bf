"""The numbers of arXiv 2508.09091, of one seed each, and ours beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from layerbridge.evaluation.comparison import Method, methods
from layerbridge.evaluation.results import Result
from layerbridge.evaluation.statistics.seeds import mean_of_seeds
from layerbridge.report.tables.grid import ABSENT, Grid, signed

HEAD = ["method", "accuracy", "here (95 % interval)", "paper", "difference"]


@dataclass(frozen=True)
class Accuracies:
    """One of the paper's tables of accuracies, in percent.

    Attributes:
        source: of the numbers.
        averages: method → mean over languages; empty if the table has none.
        averaged: the languages of the averages, English among them if the table has it.
        languages: method → language → accuracy.
    """

    source: str
    averages: Mapping[str, float]
    averaged: tuple[str, ...]
    languages: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Times:
    """The paper's time per generated token and peak memory of a GPU, by method."""

    source: str
    ms_per_token: Mapping[str, float]
    peak_mb: Mapping[str, float]

    @property
    def over_last(self) -> dict[str, float]:
        """Each method's time over that of ``last``."""
        last = self.ms_per_token["last"]
        return {name: time / last for name, time in self.ms_per_token.items()}


@dataclass(frozen=True)
class PaperComparison:
    """One of the paper's accuracies and ours, in percent.

    Attributes:
        what: a language's code, or ``average of 15``.
        here: our accuracy with its 95 % interval ``low`` to ``high``; None if it was not measured
            on the same languages.
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


def accuracies(experiment: str) -> Accuracies | None:
    """Returns the paper's accuracies of an experiment; None if it is not in the paper."""
    table = _numbers().get(experiment, {})
    if "methods" not in table:
        return None
    entries = table["methods"].items()
    return Accuracies(
        table["source"],
        {name: numbers["average"] for name, numbers in entries if "average" in numbers},
        tuple(table.get("averaged", ())),
        {name: numbers["languages"] for name, numbers in entries},
    )


def times() -> Times:
    """Returns the paper's times and memory."""
    return Times(**_numbers()["table5"])


def layer_weights() -> str:
    """Returns what the paper's figure of layer weights shows, in words; it has no numbers."""
    return str(_numbers()["figure2"]["about"])


def compare_with_paper(results: Sequence[Result], paper: Accuracies) -> list[PaperComparison]:
    """Compares every known number of the paper with ours.

    The paper averages over all languages of a table, including English. So does ``here``, unlike
    layerbridge's own tables.
    """
    ours, codes = methods(results), paper.averaged
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
    accuracy, low, high = mean_of_seeds({code: method.answers(code) for code in codes})
    return 100 * accuracy, 100 * low, 100 * high


@cache
def _numbers() -> dict[str, Any]:
    text = (resources.files("layerbridge.reproducing") / "paper.json").read_text("utf-8")
    numbers: dict[str, Any] = json.loads(text)
    return numbers
