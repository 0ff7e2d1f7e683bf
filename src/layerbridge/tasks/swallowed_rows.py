"""Rows of a CSV or TSV file inside a cell: what a quote that is not closed takes with it.

A cell that begins with a quote goes on to the next quote, over the ends of lines. If that quote
ends a cell of a later row, all rows between the two are read as one, and nothing is malformed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


def swallowed_rows(cells: Sequence[str], delimiter: str) -> list[list[str]]:
    """Returns the rows that one row becomes if its line breaks end rows; none if they cannot.

    They can if every row would have as many cells as this one. A text with line breaks and few
    delimiters can look like that, too.
    """
    for position, cell in enumerate(cells):
        lines = re.split(r"\r\n|\r|\n", cell)
        if len(lines) < 2:
            continue
        first, *inner, last = (line.split(delimiter) for line in lines)
        rows = [[*cells[:position], *first], *inner, [*last, *cells[position + 1 :]]]
        if all(len(row) == len(cells) for row in rows):
            return rows
    return []
