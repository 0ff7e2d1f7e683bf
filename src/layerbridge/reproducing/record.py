"""The record of a run's folder: what it was made with, and how far it got.

It is written before the first step, so that whoever comes later knows what an interrupted folder
was to become, and again when training is done. Knows settings as plain values; nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerbridge.errors import OutputError
from layerbridge.reproducing.outcome import ELSEWHERE
from layerbridge.training.atomic_write import atomic_write

FILE = "reproduce.json"

Settings = dict[str, Any]

# Stands for what could be known only by reading rows, where none are to be read.
UNKNOWN = "?"


@dataclass(frozen=True)
class Record:
    """What is known of a run.

    Attributes:
        training: what decides the trained bridge; empty for a method that trains none.
        evaluation: what decides the results; None if nothing was evaluated yet.
        trained: whether the bridge is done.
    """

    training: Settings
    evaluation: Settings | None = None
    trained: bool = False

    def write(self, folder: Path) -> None:
        """Into the run's folder, all of it or nothing.

        Raises:
            OutputError: it cannot be written.
        """
        document = {
            "training": self.training,
            "evaluation": self.evaluation,
            "trained": self.trained,
        }
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        atomic_write(text, folder / FILE, hint=ELSEWHERE)


def read(folder: Path) -> Record | None:
    """The record in a folder; None where nothing was begun.

    Raises:
        OutputError: the folder holds something else, or the record is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        if _holds_something(folder):
            raise OutputError(
                f"{str(folder)!r} holds something that layerbridge reproduce did not write",
                hint="another --output-dir",
            )
        return None
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        training, evaluation = document["training"], document["evaluation"]
        assert isinstance(training, dict)
        assert evaluation is None or isinstance(evaluation, dict)
        return Record(training, evaluation, document["trained"] is True)
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        raise OutputError(
            f"{str(file)!r} is damaged", hint=f"remove {str(folder)!r}, and it is done again"
        ) from None


def difference(old: Settings, new: Settings) -> tuple[str, Any, Any] | None:
    """The first setting that is not the same: its name, its value then and its value now.

    Values that are ``UNKNOWN`` in ``new`` differ from nothing.
    """
    before, now = dict(_flat(old)), dict(_flat(_plain(new)))
    for name in {**now, **before}:
        if now.get(name) == UNKNOWN:
            continue
        if before.get(name, _ABSENT) != now.get(name, _ABSENT):
            return name, before.get(name, _ABSENT), now.get(name, _ABSENT)
    return None


_ABSENT = "not set"


def _holds_something(folder: Path) -> bool:
    if not folder.is_dir():
        return folder.exists()
    # What a broken-off write left behind is hidden.
    return any(not path.name.startswith(".") for path in folder.iterdir())


def _plain(settings: Settings) -> Settings:
    """As JSON gives it back: tuples are lists, for one."""
    plain: Settings = json.loads(json.dumps(settings))
    return plain


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
