"""``layerbridge compare``: how much better each method is than one of them, and how surely."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from layerbridge.cli.language_codes import LANGUAGES, codes
from layerbridge.cli.table_format import FORMAT, Format, show


def compare(
    runs: list[Path] = typer.Argument(..., help="Result files, or folders that hold some."),
    against: str = typer.Option("last", help="The method to compare with."),
    languages: str | None = LANGUAGES,
    these_seeds: bool = typer.Option(
        False, "--these-seeds", help="The runs at hand alone: do not allow for other seeds."
    ),
    form: Format | None = FORMAT,
    as_json: bool = typer.Option(False, "--json", help="Print everything that was found as JSON."),
) -> None:
    """Compare methods row by row: effects, 95 % intervals, p-values (docs/statistics.md)."""
    from dataclasses import asdict

    from layerbridge.evaluation import comparison, results
    from layerbridge.report.tables import effect_table

    found = comparison.compare(
        results.find(runs), against, languages=codes(languages), other_seeds=not these_seeds
    )
    if as_json:
        document = {"comparisons": [asdict(each) for each in found], "versions": results.versions()}
        print(json.dumps(document, ensure_ascii=False, indent=1))
        return
    show(effect_table(found), form)
