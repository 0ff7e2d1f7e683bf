"""``layerbridge compare``: how much better each method is than one of them, and how surely."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from layerbridge.cli.table import Format


def compare(
    runs: list[Path] = typer.Argument(..., help="Result files, or folders that hold some."),
    against: str = typer.Option("last", help="The method to compare with."),
    languages: str | None = typer.Option(None, help="Codes with commas; all if not given."),
    these_seeds: bool = typer.Option(
        False, "--these-seeds", help="The runs at hand alone: do not allow for other seeds."
    ),
    form: Format | None = typer.Option(
        None, "--format", help="rich on a terminal, markdown elsewhere, if not given."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print everything that was found as JSON."),
) -> None:
    """Compare methods row by row: effects, 95 % intervals, p-values (docs/statistics.md)."""
    import sys
    from dataclasses import asdict

    from layerbridge import comparison, results
    from layerbridge.tables import effect_table

    codes = [code.strip() for code in languages.split(",")] if languages else None
    found = comparison.compare(
        results.find(runs), against, languages=codes, other_seeds=not these_seeds
    )
    if as_json:
        document = {"comparisons": [asdict(each) for each in found], "versions": results.versions()}
        print(json.dumps(document, ensure_ascii=False, indent=1))
        return
    made = effect_table(found)
    form = form or (Format.RICH if sys.stdout.isatty() else Format.MARKDOWN)
    if form is Format.RICH:
        from rich.console import Console

        Console().print(made.rich())
    elif form is Format.CSV:
        print(made.csv(), end="")
    elif form is Format.LATEX:
        print(made.latex(), end="")
    else:
        print(made.markdown(), end="")
