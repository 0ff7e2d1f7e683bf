"""The size of a run's steps: it stays the same when the run resumes in other processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerbridge.errors import ConfigError
from layerbridge.training.arguments import BridgeTrainingArguments

SETTINGS = ("per_device_train_batch_size", "gradient_accumulation_steps")
_ONE = {"rows": "row", "batches": "batch"}
_SUFFIX = "_per_step"
MOST_NAMED = 64  # processes


@dataclass(frozen=True)
class StepSize:
    """What a step of the optimizer reads, in all processes together.

    Args:
        count: of them.
        unit: ``"rows"``, or ``"batches"`` of a number of tokens.
    """

    count: int
    unit: str = "rows"

    def __str__(self) -> str:
        return f"{self.count} {_ONE[self.unit] if self.count == 1 else self.unit}"

    @classmethod
    def of(cls, training: Mapping[str, Any], processes: int) -> StepSize:
        """Returns the size that training arguments give."""
        size, batches = (int(_value(training, name)) for name in SETTINGS)
        if training.get("tokens_per_batch") is not None:
            return cls(batches * processes, "batches")
        return cls(size * batches * processes)

    @classmethod
    def logged(cls, log: Iterable[Mapping[str, Any]]) -> StepSize | None:
        """Returns the size in a run's log; None if it has none, as before 0.2."""
        for entry in log:
            for unit in ("rows", "batches"):
                if unit + _SUFFIX in entry:
                    return cls(entry[unit + _SUFFIX], unit)
        return None

    def entry(self) -> dict[str, int]:
        """Returns what the log has."""
        return {self.unit + _SUFFIX: self.count}

    def shared(self, training: Mapping[str, Any], processes: int) -> dict[str, int]:
        """Returns ``SETTINGS`` with which so many processes do a step of this size.

        Batches get no larger than those of the given arguments, so that they fit in memory.

        Raises:
            ConfigError: the processes cannot share a step.
        """
        share, rest = divmod(self.count, processes)
        if rest:
            most = min(self.count, MOST_NAMED)
            counts = [str(n) for n in range(1, most + 1) if self.count % n == 0]
            raise ConfigError(
                f"{processes} processes cannot share a step of {self}, which the run began with",
                allowed=f"{', '.join(counts)} process{'es' * (self.count > 1)}",
                hint="resume in so many, or train in another folder",
            )
        size = int(_value(training, SETTINGS[0]))
        if self.unit == "batches":
            return dict(zip(SETTINGS, (size, share), strict=True))
        size = next(rows for rows in range(min(size, share), 0, -1) if share % rows == 0)
        return dict(zip(SETTINGS, (size, share // size), strict=True))


def processes_of(checkpoint: Path) -> int:
    """Returns how many processes have written a checkpoint: each has random numbers of its own."""
    return len(list(checkpoint.glob("rng_state_*.pth"))) or 1


def _value(training: Mapping[str, Any], name: str) -> Any:
    value = training.get(name)
    return BridgeTrainingArguments.__dataclass_fields__[name].default if value is None else value
