"""A grid on a terminal: as wide as the terminal is, and no word broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from layerbridge.report.tables.grid import Grid

# A longer word, such as a path, may be broken.
LONGEST_WORD = 30


class Fitted:
    """What rich prints for a grid.

    Number columns that do not fit beside each other go into further tables below, each with the
    grid's text columns.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left = [*range(self.grid.left)]
        blocks = [left]
        for column in range(self.grid.left, len(self.grid.head)):
            is_empty = len(blocks[-1]) == len(left)
            if is_empty or self._spare([*blocks[-1], column], options.max_width) >= 0:
                blocks[-1] = [*blocks[-1], column]
            else:
                blocks.append([*left, column])
        for number, columns in enumerate(blocks):
            yield self._table(columns, options.max_width, None if number else self.grid.title)
        if self.grid.legend:
            yield Text(self.grid.legend)

    def _spare(self, columns: Sequence[int], width: int) -> int:
        """Returns how much narrower the columns can be than the terminal is."""
        # Two spaces between columns, one at either end.
        return width - sum(self._narrowest(column) + 2 for column in columns)

    def _narrowest(self, column: int) -> int:
        """Returns the width that breaks no word, and no number with its interval."""
        head, cells = self.grid.head[column], [row[column] for row in self.grid.body]
        is_text = column < self.grid.left
        pieces = [head, *(cells if is_text else ())]
        words = [len(word) for piece in pieces for word in piece.split()]
        longest = min(max(words, default=1), LONGEST_WORD)
        return longest if is_text else max([longest, *map(len, cells)])

    def _table(self, columns: Sequence[int], width: int, title: str | None) -> Table:
        # Text rather than str throughout: method names may contain rich markup.
        table = Table(
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
            title=Text(title) if title else None,
            title_justify="left",
        )
        spare = max(0, self._spare(columns, width))
        for column in columns:
            narrowest = self._narrowest(column)
            cells = [self.grid.head[column], *(row[column] for row in self.grid.body)]
            more = min(spare, max(map(len, cells)) - narrowest)
            spare -= more
            table.add_column(
                Text(self.grid.head[column]),
                justify="left" if column < self.grid.left else "right",
                overflow="fold",
                # Given, since rich makes columns narrower than their words to fit more of them.
                width=narrowest + more,
            )
        for row in self.grid.body:
            table.add_row(*(Text(row[column]) for column in columns))
        return table
