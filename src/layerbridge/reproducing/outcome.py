"""What came out of an experiment: files, a text, and the same as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from layerbridge.reproducing.request import Request

if TYPE_CHECKING:
    from rich.console import RenderableType

TABLE = "table.md"

# The next step where a file cannot be written.
ELSEWHERE = "another --output-dir, or free some disk"


class Shown(Protocol):
    """A table that a terminal can show."""

    def rich(self) -> RenderableType:
        """For the terminal."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a command leaves.

    Attributes:
        paths: of all that was written for this request, earlier commands' results among it.
        tables: for the terminal.
        document: JSON values.
    """

    paths: tuple[Path, ...]
    tables: tuple[Shown, ...]
    document: dict[str, Any]


def heading(request: Request) -> str:
    """The first lines of a table's file: what it is, and with what it was made."""
    preset = request.preset
    return f"# {request.experiment.title}\n\nPreset `{preset.name}`: {preset.about}.\n"


def facts(request: Request) -> dict[str, Any]:
    """What every document begins with."""
    return {
        "experiment": request.experiment.name,
        "title": request.experiment.title,
        "preset": request.preset.name,
        "seeds": list(request.seeds),
    }
