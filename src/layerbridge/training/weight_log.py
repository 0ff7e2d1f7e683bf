"""The log of a run's layer weights, ``layer-weights.jsonl``: one line per logged step.

{"step": 0, "weights": [0.025, 0.025, 0.95], "lowest": 1}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, ValidationError

from layerbridge.errors import ResultError

FILE = "layer-weights.jsonl"


@dataclass(frozen=True)
class WeightLog:
    """A run's weights over its steps.

    Attributes:
        steps: in ascending order, one or more.
        weights: for each step, the weight of each encoder layer, lowest first.
        first_layer: number of the lowest layer: 1, or 0 with the embedding layer.
    """

    steps: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...]
    first_layer: int = 1


class _Line(BaseModel):
    model_config = ConfigDict(strict=True)
    step: NonNegativeInt
    weights: tuple[FiniteFloat, ...] = Field(min_length=1)
    lowest: Literal[0, 1] = 1  # early logs have none

    def follows(self, last: _Line) -> bool:
        """Whether this is a later step of the same layers."""
        same_layers = len(self.weights) == len(last.weights) and self.lowest == last.lowest
        return self.step > last.step and same_layers


def read(path: str | Path) -> WeightLog:
    """Reads a log, given its path or its run's folder.

    A last line without a line break is ignored: the run may still be writing it.

    Raises:
        ResultError: the file is missing, empty or damaged.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    lines: list[_Line] = []
    try:
        for number, (_, line) in enumerate(_lines(path), 1):
            if line is None or (lines and not line.follows(lines[-1])):
                raise ResultError(f"{path} is damaged (line {number})", hint="train again")
            lines.append(line)
    except OSError as error:
        raise ResultError(
            f"{path} cannot be read ({error.strerror or error})",
            hint="only a run whose fusion learns weights, such as global-softmax, has this file",
        ) from None
    if not lines:
        raise ResultError(f"{path} is empty", hint="train again")
    return WeightLog(
        tuple(line.step for line in lines),
        tuple(line.weights for line in lines),
        lines[0].lowest,
    )


def keep(path: Path, step: int) -> bool:
    """Cuts the log for a run that resumes at ``step``: lines of later steps are removed.

    Returns:
        Whether any lines are left.

    Raises:
        OSError: the file cannot be written.
    """
    kept: list[str] = []
    for text, line in _lines(path) if path.is_file() else ():
        # Nothing after a damaged line can be trusted.
        if line is None or line.step > step:
            break
        kept.append(f"{text}\n")
    path.write_text("".join(kept), encoding="utf-8")
    return bool(kept)


def append(path: Path, step: int, weights: Sequence[float], *, first_layer: int = 1) -> None:
    """Appends one line.

    Raises:
        OSError: the file cannot be written.
    """
    # Six digits: a plot shows three, and a line of 24 layers stays short.
    numbers = [float(f"{weight:.6g}") for weight in weights]
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "weights": numbers, "lowest": first_layer}) + "\n")


def _lines(path: Path) -> Iterator[tuple[str, _Line | None]]:
    """Yields each complete line and its content; None if it is damaged."""
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
        try:
            yield text, _Line.model_validate_json(text)
        except ValidationError:
            yield text, None
