"""``--format`` of tables."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from layerbridge.cli.options import output

if TYPE_CHECKING:
    from layerbridge.report.tables import EffectTable, Table
    from layerbridge.report.tables.grid import Grid


class Format(StrEnum):
    """Formats that a table can be printed in."""

    RICH = "rich"
    MARKDOWN = "markdown"
    CSV = "csv"
    LATEX = "latex"


TableFormat = Annotated[
    Format | None,
    output(..., "By default rich on a terminal, markdown elsewhere.", "--format"),
]


def print_table(table: Table | EffectTable | Grid, form: Format | None, **settings: Any) -> None:
    """Prints a table on stdout.

    Args:
        table: of results.
        form: None is rich on a terminal, markdown elsewhere.
        **settings: of every format but CSV, which has all columns.
    """
    form = form or (Format.RICH if sys.stdout.isatty() else Format.MARKDOWN)
    if form is Format.RICH:
        from rich.console import Console

        Console().print(table.rich(**settings))
    elif form is Format.CSV:
        print(table.csv(), end="")
    else:
        render = table.latex if form is Format.LATEX else table.markdown
        print(render(**settings), end="")
