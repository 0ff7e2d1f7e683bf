"""The accuracy table as a report has it: a row a language, the best of each row marked."""

from __future__ import annotations

from dataclasses import dataclass

from layerbridge.report.tables import Cell, Table
from layerbridge.tasks.languages import names, script


@dataclass(frozen=True)
class Line:
    """One language, or the average.

    Attributes:
        code: of the language; None for the average.
        name: in English.
        note: the code and the script, or how many languages are averaged.
        cells: of the table's rows, in their order; None where one was not tested.
        best: which of them no other is better than.
    """

    code: str | None
    name: str
    note: str
    cells: tuple[Cell | None, ...]
    best: tuple[bool, ...]


def lines(table: Table) -> tuple[Line, ...]:
    """The table's languages, and the average last."""
    named = names(table.languages)
    made = [
        _line(code, named[code], ", ".join(filter(None, [code, script(code)])), cells)
        for code, cells in zip(
            table.languages, zip(*(row.cells for row in table.rows), strict=True), strict=True
        )
    ]
    if table.averaged:
        averages = tuple(row.average for row in table.rows)
        made.append(_line(None, "average", f"of {len(table.averaged)}", averages))
    return tuple(made)


def _line(code: str | None, name: str, note: str, cells: tuple[Cell | None, ...]) -> Line:
    highest = max((cell.accuracy for cell in cells if cell is not None), default=0.0)
    best = tuple(cell is not None and cell.accuracy == highest for cell in cells)
    return Line(code, name, note, cells, best)
