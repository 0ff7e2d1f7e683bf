"""The record of a run's folder, ``reproduce.json``: its settings, and whether training is done.

It is written before the first step, so that an interrupted run can be recognized.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from layerbridge.errors import OutputError
from layerbridge.training.atomic_write import atomic_write

FILE = "reproduce.json"

Settings = dict[str, Any]

# Stands for what is known only after reading the rows; it matches every value.
UNKNOWN = "?"
_ABSENT = "not set"


@dataclass(frozen=True)
class Record:
    """What is known of a run.

    Attributes:
        training: settings that decide the trained bridge; empty for a baseline.
        evaluation: settings that decide the results; None before the first evaluation.
        trained: whether the bridge is trained.
        seconds: of the training, and of each evaluation by its protocol.
    """

    training: Settings
    evaluation: Settings | None
    trained: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes the record into the run's folder.

        Raises:
            OutputError: it cannot be written.
        """
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"
        atomic_write(text, folder / FILE, hint="another --output, or free some disk space")


def read(folder: Path) -> Record | None:
    """Reads the record of a folder; None if the folder is empty or does not exist.

    Raises:
        OutputError: the folder holds something else, or the record is damaged.
    """
    file = folder / FILE
    try:
        return TypeAdapter(Record).validate_json(file.read_bytes(), strict=True)
    except (FileNotFoundError, NotADirectoryError):
        # Leftovers of an interrupted write are hidden files.
        empty = folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())
        if empty or not folder.exists():
            return None
        raise OutputError(
            f"{str(folder)!r} holds something that layerbridge reproduce did not write",
            hint="another --output",
        ) from None
    except (OSError, ValidationError):
        raise OutputError(
            f"{str(file)!r} is damaged", hint=f"remove {str(folder)!r} to start it over"
        ) from None


def difference(old: Settings, new: Settings) -> tuple[str, Any, Any] | None:
    """Returns the first setting that differs: its name, old value and new value."""
    # As JSON has them: tuples are lists.
    before, now = dict(_flat(old)), dict(_flat(json.loads(json.dumps(new))))
    for name in {**now, **before}:
        values = before.get(name, _ABSENT), now.get(name, _ABSENT)
        if values[1] not in (UNKNOWN, values[0]):
            return name, *values
    return None


def is_changed(where: Path, old: Settings, new: Settings, *, overwrite: bool) -> bool:
    """Returns whether the settings of ``where`` differ and may be replaced.

    Raises:
        OutputError: they differ, without ``overwrite``.
    """
    changed = difference(old, new)
    if changed and not overwrite:
        name, before, now = changed
        raise OutputError(
            f"{str(where)!r} was made with {name} {before!r}, and now it is {now!r}",
            hint="--overwrite to replace it, or another --output",
        )
    return changed is not None


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
