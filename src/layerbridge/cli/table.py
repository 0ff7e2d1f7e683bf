"""``layerbridge table``: result files side by side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer


class Format(StrEnum):
    """What a table is printed as."""

    RICH = "rich"
    MARKDOWN = "markdown"
    CSV = "csv"
    LATEX = "latex"


def table(
    runs: list[Path] = typer.Argument(..., help="Result files, or folders that hold some."),
    form: Format | None = typer.Option(
        None, "--format", help="rich on a terminal, markdown elsewhere, if not given."
    ),
    intervals: bool = typer.Option(False, "--intervals", help="95 % intervals of each language."),
) -> None:
    """Print a table: a row a method, a column a language."""
    import sys

    from layerbridge import results
    from layerbridge.tables import accuracy_table

    made = accuracy_table(results.find(runs))
    form = form or (Format.RICH if sys.stdout.isatty() else Format.MARKDOWN)
    if form is Format.RICH:
        from rich.console import Console

        Console().print(made.rich(intervals=intervals))
    elif form is Format.CSV:
        print(made.csv(), end="")
    elif form is Format.LATEX:
        print(made.latex(intervals=intervals), end="")
    else:
        print(made.markdown(intervals=intervals), end="")
