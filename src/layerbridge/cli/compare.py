"""``layerbridge compare``: how much better each method is than another, and how certainly."""

from __future__ import annotations

import json

from layerbridge.cli import options as o
from layerbridge.cli.table_format import TableFormat, print_table
from layerbridge.cli.values import split


def compare(
    runs: o.ResultFiles,
    against: o.Against = "last",
    languages: o.Languages = None,
    no_seed_variance: bool = o.option(
        False, "Compare these runs only; ignore variance across seeds.", "--no-seed-variance"
    ),
    form: TableFormat = None,
    as_json: o.Json = False,
) -> None:
    """Compare methods row by row: effects, intervals, p-values.

    On a terminal, languages are rows and methods columns; elsewhere it is Markdown, which also has
    the uncorrected p-values and the rows won and lost. See docs/statistics.md.
    """
    from dataclasses import asdict

    from layerbridge.evaluation import comparison, results
    from layerbridge.report.tables import effect_table

    comparisons = comparison.compare(
        results.find(runs), against, languages=split(languages), other_seeds=not no_seed_variance
    )
    if as_json:
        document = {
            "comparisons": [asdict(each) for each in comparisons],
            "versions": results.versions(),
        }
        print(json.dumps(document, ensure_ascii=False, indent=1))
        return
    print_table(effect_table(comparisons), form)
