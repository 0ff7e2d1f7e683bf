"""Tables from result files: Markdown, CSV, LaTeX, and the terminal.

    accuracies   a row a method, a column a language
    effects      one method against others: a row a language
    grid         cells of text, printed in one of the three forms

Reads results, never models. Only what was measured on the same rows in the same way goes into one
table; anything else is refused.
"""

from layerbridge.evaluation.comparison import check_comparable, ordered_languages
from layerbridge.report.tables.accuracies import Cell, Table, TableRow, accuracy_table
from layerbridge.report.tables.effects import EffectTable, effect_table

__all__ = [
    "Cell",
    "EffectTable",
    "Table",
    "TableRow",
    "accuracy_table",
    "check_comparable",
    "effect_table",
    "ordered_languages",
]
