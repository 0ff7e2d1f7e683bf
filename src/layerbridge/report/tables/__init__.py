"""Tables of results, printed as Markdown, CSV, LaTeX or for the terminal.

accuracies   a row per method, a column per language
effects      each method compared with one other: a row per language
macro_f1     as accuracies, with the mean F1 of the labels
grid         formatted cells, and the three print forms that share them
"""

from layerbridge.report.tables.accuracies import Cell, Table, TableRow, accuracy_table
from layerbridge.report.tables.effects import EffectTable, effect_table
from layerbridge.report.tables.macro_f1 import macro_f1_table, unbalanced

__all__ = [
    "Cell",
    "EffectTable",
    "Table",
    "TableRow",
    "accuracy_table",
    "effect_table",
    "macro_f1_table",
    "unbalanced",
]
