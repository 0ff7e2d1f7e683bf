"""``--format``: what a table is printed as."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from layerbridge.report.tables import EffectTable, Table


class Format(StrEnum):
    """What a table is printed as."""

    RICH = "rich"
    MARKDOWN = "markdown"
    CSV = "csv"
    LATEX = "latex"


FORMAT: Any = typer.Option(
    None, "--format", help="rich on a terminal, markdown elsewhere, if not given."
)


def show(table: Table | EffectTable, form: Format | None, **settings: Any) -> None:
    """Prints a table on stdout.

    Args:
        table: of results.
        form: None is rich on a terminal, markdown elsewhere.
        **settings: of all forms but CSV, which has everything there is.
    """
    import sys

    form = form or (Format.RICH if sys.stdout.isatty() else Format.MARKDOWN)
    if form is Format.RICH:
        from rich.console import Console

        Console().print(table.rich(**settings))
    elif form is Format.CSV:
        print(table.csv(), end="")
    elif form is Format.LATEX:
        print(table.latex(**settings), end="")
    else:
        print(table.markdown(**settings), end="")
