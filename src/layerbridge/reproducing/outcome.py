"""The outcome of an experiment: files, tables for the terminal, and a JSON document."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Tables for the terminal, JSON values, and all files of the request, old ones included."""

    paths: tuple[Path, ...]
    tables: tuple[Table | EffectTable | Grid, ...]
    document: dict[str, Any]

    @classmethod
    def write(
        cls,
        request: Request,
        paragraphs: Sequence[str],
        tables: Sequence[Table | EffectTable | Grid],
        facts: dict[str, Any],
        *,
        paths: Sequence[Path],
        reports: Sequence[Path] = (),
    ) -> Outcome:
        """Writes ``table.md``, with a heading, and returns the outcome.

        Raises:
            OutputError: it cannot be written.
        """
        preset = request.preset
        heading = f"# {request.experiment.title}\n\nPreset `{preset.name}`: {preset.about}.\n"
        text = "\n".join([heading, *paragraphs])
        table = atomic_write(text, request.folder / "table.md", hint=HINT)
        paths = (*paths, table, *reports)
        document = {**request.facts(), **facts, "paths": list(map(str, paths))}
        return cls(paths, tuple(tables), document)
