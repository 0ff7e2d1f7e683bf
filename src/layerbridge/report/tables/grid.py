"""Cells of text in rows and columns, as Markdown, LaTeX, or a table for the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerbridge.evaluation.comparison import Mark

if TYPE_CHECKING:
    import rich.table

ABSENT = "–"
MARKS: dict[Mark | None, str] = {"better": "▲", "worse": "▼", None: ""}

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "–": "--",
        "−": "$-$",
        "<": "$<$",
        "▲": r"\textsuperscript{+}",
        "▼": r"\textsuperscript{$-$}",
    }
)


def signed(points: float) -> str:
    """A difference in points, one decimal: with its sign, and with a minus and no hyphen."""
    # Adding 0.0 takes the minus off a zero.
    return f"{round(points, 1) + 0.0:+.1f}".replace("-", "−")


@dataclass(frozen=True)
class Grid:
    """A table whose cells are text already.

    Attributes:
        head: names of the columns.
        body: a row each, as wide as the head.
        left: how many columns hold words and stand to the left; the others hold numbers.
        legend: one line below, or nothing.
        title: one line above, in the terminal.
    """

    head: list[str]
    body: list[list[str]]
    left: int
    legend: str | None = None
    title: str | None = None

    def markdown(self) -> str:
        """A GitHub table, and the legend as a paragraph."""
        lines = [self.head, ["---"] * self.left + ["---:"] * (len(self.head) - self.left)]
        lines += self.body
        table = "".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
        )
        return table + (f"\n{self.legend}\n" if self.legend else "")

    def latex(self) -> str:
        """A booktabs tabular, without a float around it, and the legend as a paragraph."""
        columns = "l" * self.left + "r" * (len(self.head) - self.left)
        head, *body = [
            " & ".join(cell.translate(_LATEX) for cell in line) + r" \\"
            for line in [self.head, *self.body]
        ]
        lines = [
            rf"\begin{{tabular}}{{{columns}}}",
            *(r"\toprule", head, r"\midrule", *body, r"\bottomrule"),
            r"\end{tabular}",
        ]
        if self.legend:
            lines.append(rf"\par\smallskip{{\footnotesize {self.legend.translate(_LATEX)}}}")
        return "\n".join(lines) + "\n"

    def rich(self) -> rich.table.Table:
        """A table for the terminal."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            title=Text(self.title) if self.title else None,
            title_justify="left",
            caption=Text(self.legend) if self.legend else None,
            caption_justify="left",
        )
        for position, name in enumerate(self.head):
            table.add_column(
                Text(name), justify="left" if position < self.left else "right", overflow="fold"
            )
        for line in self.body:
            # Text and not str: a method's name may hold what rich reads as markup.
            table.add_row(*(Text(cell) for cell in line))
        return table

    def turned(self) -> Grid:
        """Rows as columns."""
        head, *body = [list(line) for line in zip(self.head, *self.body, strict=True)]
        return Grid(head, body, 1, self.legend, self.title)
