"""What a verb that evaluates leaves: a result file, and its table or its text on stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from layerbridge.evaluation.results import Result

JSON: Any = typer.Option(False, "--json", help="Print the result as JSON.")


def leave(result: Result, path: Path, *, as_json: bool) -> None:
    """Writes a result, says where on stderr, and prints it.

    Args:
        result: of the verb.
        path: of its file.
        as_json: print what is in the file, and not a table.

    Raises:
        OutputError: it cannot be written.
    """
    from layerbridge.report.tables import accuracy_table

    path = result.write(path)
    typer.echo(f"wrote {path}", err=True)
    if as_json:
        print(path.read_text(encoding="utf-8"), end="")
    else:
        print(accuracy_table([result]).markdown(intervals=True), end="")
