"""How many rows a task has and whether they are on this machine; told without the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a task's rows before anything is read or fetched.

    Attributes:
        place: ``built in``, ``local``, ``hub cache`` or ``not yet``; of a task that is there in
            part, how much of it is.
        train: rows in the source; None where nobody knows before it is read.
        validation: the same.
        test: the same, by language.
    """

    place: str
    train: int | None
    validation: int | None
    test: Mapping[str, int | None]
