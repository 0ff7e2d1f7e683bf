"""The paper's numbers, arXiv 2508.09091, from ``paper.json``; numbers without a source are null."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Accuracies:
    """One of the paper's tables of accuracies.

    Attributes:
        source: of the numbers; None if none is known.
        averages: method → mean over languages, in per cent.
        averaged: the languages of the averages; None if unknown.
        languages: method → language → per cent.
    """

    source: str | None
    averages: Mapping[str, float]
    averaged: tuple[str, ...] | None
    languages: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Times:
    """The paper's table of times and memory.

    Attributes:
        source: of the numbers.
        over_last: method → its time over that of ``last``.
        peak_gb: peak memory, of an unknown method.
    """

    source: str
    over_last: Mapping[str, float]
    peak_gb: float


def accuracies(experiment: str) -> Accuracies | None:
    """Returns the paper's accuracies of an experiment; None if it is not in the paper."""
    table = _numbers().get(experiment)
    if table is None or "methods" not in table:
        return None
    methods = table["methods"]
    return Accuracies(
        table["source"],
        _known({name: numbers["average"] for name, numbers in methods.items()}),
        tuple(table["averaged"]) if table["averaged"] else None,
        {name: _known(numbers["languages"] or {}) for name, numbers in methods.items()},
    )


def times() -> Times:
    """Returns the paper's times and memory."""
    table = _numbers()["table5"]
    return Times(table["source"], _known(table["over_last"]), table["peak_gb"])


@cache
def _numbers() -> dict[str, Any]:
    text = (resources.files("layerbridge.reproducing") / "paper.json").read_text("utf-8")
    numbers: dict[str, Any] = json.loads(text)
    return numbers


def _known(numbers: Mapping[str, float | None]) -> dict[str, float]:
    return {name: number for name, number in numbers.items() if number is not None}
