"""Tables of results, printed as Markdown, CSV, LaTeX or for the terminal.

accuracies   a row per method, a column per language
effects      each method compared with one other: a row per language
grid         formatted cells, and the three print forms that share them
"""

from layerbridge.report.tables.accuracies import Cell, Table, TableRow, accuracy_table
from layerbridge.report.tables.effects import EffectTable, effect_table

__all__ = ["Cell", "EffectTable", "Table", "TableRow", "accuracy_table", "effect_table"]
