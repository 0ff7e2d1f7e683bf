"""Errors a user can cause, each told in one line: what was given, what is allowed, what to do next.

Every class is a ``ValueError``, so a library user can catch the standard type; the command line
catches ``LayerBridgeError``, prints its one line and exits with code 2.
Bugs of our own are never raised through these: they are ``assert`` or what Python raises.
"""

from __future__ import annotations

from collections.abc import Iterable


class LayerBridgeError(ValueError):
    """A mistake that a user can mend.

    Args:
        problem: what was given and why it does not work, without a full stop.
        allowed: what would be accepted; an iterable of names is joined with commas.
        hint: the next step, a command where there is one.
    """

    def __init__(
        self, problem: str, *, allowed: str | Iterable[str] | None = None, hint: str | None = None
    ) -> None:
        self.problem = problem
        self.allowed = (
            allowed if isinstance(allowed, str) or allowed is None else ", ".join(allowed)
        )
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.problem]
        if self.allowed is not None:
            parts.append(f"allowed: {self.allowed}")
        if self.hint is not None:
            parts.append(f"next: {self.hint}")
        return " ".join("; ".join(parts).split())


class ConfigError(LayerBridgeError):
    """A setting is unknown, out of range, or at odds with another one."""


class BackboneError(LayerBridgeError):
    """An encoder or language model cannot be found, or is of a kind that does not fit."""


class CheckpointError(LayerBridgeError):
    """A saved bridge is damaged, incomplete, or was made with another backbone."""


class DataError(LayerBridgeError):
    """A data file, column, row, label or language is not what the task needs."""


class ResultError(LayerBridgeError):
    """A result file is missing, malformed, or cannot be compared with another one."""


class OutputError(LayerBridgeError):
    """An output directory cannot be written, or holds something that would be lost."""


class ZooError(LayerBridgeError):
    """A model of the zoo is unknown, cannot be fetched, or failed its check."""


class TrainingError(LayerBridgeError):
    """Training cannot go on: the loss is not a number, or the settings do not fit the data."""
