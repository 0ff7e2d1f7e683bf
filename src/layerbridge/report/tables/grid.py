"""A table of formatted cells, printed as Markdown, LaTeX or for the terminal."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerbridge.evaluation.comparison import Mark

if TYPE_CHECKING:
    from layerbridge.report.tables.terminal import Fitted

ABSENT = "–"
MARKS: dict[Mark | None, str] = {"better": "▲", "worse": "▼", None: ""}
ONE_SEED = "With one seed of a method, other seeds are not covered and no difference is marked."

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
    """Returns a difference in points with its sign and one decimal: ``+1.5``, ``−0.3``."""
    # Adding 0.0 turns -0.0 into 0.0.
    return f"{round(points, 1) + 0.0:+.1f}".replace("-", "−")


@dataclass(frozen=True)
class Grid:
    """A table of formatted cells.

    Attributes:
        head: column names.
        body: rows, each as long as the head.
        left: number of leading text columns, aligned left; the rest are numbers, aligned right.
        legend: one line below the table.
        title: one line above it, in the terminal only.
        turned: whether rows are columns on a terminal.
    """

    head: list[str]
    body: list[list[str]]
    left: int
    legend: str | None = None
    title: str | None = None
    turned: bool = False

    def markdown(self) -> str:
        """Returns a GitHub table, followed by the legend as a paragraph."""
        rule = ["---"] * self.left + ["---:"] * (len(self.head) - self.left)
        lines = [
            "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n"
            for row in (self.head, rule, *self.body)
        ]
        return "".join(lines) + (f"\n{self.legend}\n" if self.legend else "")

    def csv(self) -> str:
        """Returns a line per row, without the legend."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.head, *self.body])
        return out.getvalue()

    def latex(self) -> str:
        """Returns a booktabs tabular without a float, followed by the legend as a paragraph."""
        columns = "l" * self.left + "r" * (len(self.head) - self.left)
        head, *body = (
            " & ".join(cell.translate(_LATEX) for cell in row) + r" \\"
            for row in (self.head, *self.body)
        )
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body]
        lines += [r"\bottomrule", r"\end{tabular}"]
        if self.legend:
            lines.append(rf"\par\smallskip{{\footnotesize {self.legend.translate(_LATEX)}}}")
        return "\n".join(lines) + "\n"

    def rich(self) -> Fitted:
        """Returns what rich prints on a terminal, for its width."""
        from layerbridge.report.tables.terminal import Fitted

        return Fitted(self.transposed() if self.turned else self)

    def transposed(self) -> Grid:
        """Returns the grid with rows and columns swapped."""
        head, *body = map(list, zip(self.head, *self.body, strict=True))
        return Grid(head, body, 1, self.legend, self.title)
