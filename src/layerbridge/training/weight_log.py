"""The log of a run's layer weights, ``layer-weights.jsonl``: a line a step, written as it trains.

    {"step": 0, "weights": [0.025, 0.025, 0.95], "lowest": 1}

Knows the file, not where weights come from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from layerbridge.errors import ResultError

FILE = "layer-weights.jsonl"


@dataclass(frozen=True)
class WeightLog:
    """A run's weights over its steps.

    Attributes:
        steps: in rising order, one or more.
        weights: for each step, the weight of each encoder layer, lowest first.
        first_layer: number of the lowest layer: 1, or 0 with the embedding layer.
    """

    steps: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...]
    first_layer: int = 1


class _Line(NamedTuple):
    step: int
    weights: tuple[float, ...]
    first_layer: int


def read(path: str | Path) -> WeightLog:
    """The log in a run's folder, or a log itself.

    A last line that is cut short is passed over: the run may be at work, or have been broken off.

    Raises:
        ResultError: there is no such file, or it is damaged.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ResultError(
            f"{path} cannot be read ({error.strerror or error})",
            hint="a run has one if its fusion learns weights, such as global-softmax",
        ) from None
    lines: list[_Line] = []
    for number, line in enumerate(text.split("\n")[:-1], 1):
        entry = _entry(line)
        if entry is None or not _follows(entry, lines):
            raise ResultError(f"{path} is damaged (line {number})", hint="train again")
        lines.append(entry)
    if not lines:
        raise ResultError(f"{path} is empty", hint="train again")
    steps, weights, _ = zip(*lines, strict=True)
    return WeightLog(steps, weights, lines[0].first_layer)


def keep(path: Path, step: int) -> bool:
    """Makes the file ready to be gone on with from ``step``: lines of later steps go.

    Returns:
        Whether lines are left in it.

    Raises:
        OSError: it cannot be written.
    """
    kept: list[str] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            entry = _entry(line)
            # What follows a damaged line is worth nothing.
            if entry is None or entry.step > step:
                break
            kept.append(f"{line}\n")
    path.write_text("".join(kept), encoding="utf-8")
    return bool(kept)


def append(path: Path, step: int, weights: Sequence[float], *, first_layer: int = 1) -> None:
    """Writes one more line.

    Raises:
        OSError: it cannot be written.
    """
    # Six digits: a picture shows three, and a line of 24 layers stays short.
    numbers = [float(f"{weight:.6g}") for weight in weights]
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "weights": numbers, "lowest": first_layer}) + "\n")


def _entry(line: str) -> _Line | None:
    """What a line says, or None for one that is damaged."""
    try:
        entry = json.loads(line)
        step, weights = entry["step"], tuple(float(weight) for weight in entry["weights"])
        first_layer = entry.get("lowest", 1)  # logs had none at first
    except (ValueError, TypeError, KeyError):
        return None
    whole = isinstance(step, int) and not isinstance(step, bool) and step >= 0
    whole = whole and first_layer in (0, 1) and bool(weights) and all(map(math.isfinite, weights))
    return _Line(step, weights, first_layer) if whole else None


def _follows(entry: _Line, before: Sequence[_Line]) -> bool:
    """Whether a line can stand after those before it: of a later step, and of the same layers."""
    if not before:
        return True
    last = before[-1]
    same = len(entry.weights) == len(last.weights) and entry.first_layer == last.first_layer
    return entry.step > last.step and same
