"""The outcome of an experiment: files, tables for the terminal, and a JSON document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerbridge.report.tables import EffectTable, Table
from layerbridge.report.tables.grid import Grid
from layerbridge.reproducing.request import Request
from layerbridge.training.atomic_write import atomic_write

HINT = "another --output, or free some disk space"


@dataclass(frozen=True)
class Outcome:
    """What a command leaves.

    Attributes:
        paths: of all files of this request, also those of earlier commands.
        tables: for the terminal.
        document: JSON values.
    """

    paths: tuple[Path, ...]
    tables: tuple[Table | EffectTable | Grid, ...]
    document: dict[str, Any]

    @classmethod
    def of(
        cls,
        request: Request,
        paths: list[Path],
        tables: list[Table | EffectTable | Grid],
        facts: dict[str, Any],
    ) -> Outcome:
        """Returns the outcome, with the facts and paths in the document."""
        files = [str(path) for path in paths]
        document = {**request.facts(), **facts, "paths": files}
        return cls(tuple(paths), tuple(tables), document)


def write_table(request: Request, *paragraphs: str) -> Path:
    """Writes ``table.md``, with a heading.

    Raises:
        OutputError: it cannot be written.
    """
    preset = request.preset
    heading = f"# {request.experiment.title}\n\nPreset `{preset.name}`: {preset.about}.\n"
    text = "\n".join([heading, *paragraphs])
    return atomic_write(text, request.folder / "table.md", hint=HINT)
