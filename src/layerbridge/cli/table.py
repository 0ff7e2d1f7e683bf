"""``layerbridge table``: result files side by side."""

from __future__ import annotations

from layerbridge.cli import options as o
from layerbridge.cli.table_format import TableFormat, print_table


def table(
    runs: o.ResultFiles,
    intervals: bool = o.option(False, "Show a 95 % interval for each language.", "--intervals"),
    by_seed: bool = o.option(False, "One row per seed instead of the mean.", "--by-seed"),
    macro_f1: bool = o.option(
        False, "Show macro-F1, the mean F1 of the labels, instead of accuracy.", "--macro-f1"
    ),
    against: o.OptionalAgainst = None,
    form: TableFormat = None,
) -> None:
    """Print a table of accuracies by method and language.

    On a terminal, languages are rows and methods columns, as many as fit beside each other;
    elsewhere a Markdown table has a row per method.

    With --against, accuracies that differ significantly from that method's are marked, if there are
    several seeds.
    """
    from layerbridge.errors import ConfigError
    from layerbridge.evaluation import results
    from layerbridge.evaluation.comparison import compare
    from layerbridge.progress import say
    from layerbridge.report.tables import accuracy_table, macro_f1_table, unbalanced

    if macro_f1 and (intervals or against):
        raise ConfigError(
            f"macro-F1 has no {'intervals' if intervals else 'tests'}",
            hint=f"drop {'--intervals' if intervals else '--against'}",
        )
    if by_seed and against:
        raise ConfigError(
            "--against compares methods across seeds, --by-seed shows each seed",
            hint="drop one of them",
        )
    runs_found = results.find(runs)
    if macro_f1:
        print_table(macro_f1_table(runs_found, by_seed=by_seed), form)
        return
    if unbalanced(runs_found):
        say("note: some labels have many more rows than others; --macro-f1 counts each the same")
    comparisons = compare(runs_found, against) if against else ()
    print_table(
        accuracy_table(runs_found, by_seed=by_seed, comparisons=comparisons),
        form,
        intervals=intervals,
    )
