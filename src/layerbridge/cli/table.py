"""``layerbridge table``: result files side by side."""

from __future__ import annotations

from pathlib import Path

import typer

from layerbridge.cli.table_format import FORMAT, Format, show


def table(
    runs: list[Path] = typer.Argument(..., help="Result files, or folders that hold some."),
    form: Format | None = FORMAT,
    intervals: bool = typer.Option(False, "--intervals", help="95 % intervals of each language."),
    by_seed: bool = typer.Option(False, "--by-seed", help="A row for every seed, not the mean."),
    against: str | None = typer.Option(
        None, help="Mark what is significantly better or worse than this method, such as last."
    ),
) -> None:
    """Print a table: a row a method, a column a language."""
    from layerbridge.errors import ConfigError
    from layerbridge.evaluation import results
    from layerbridge.evaluation.comparison import compare
    from layerbridge.report.tables import accuracy_table

    if by_seed and against:
        raise ConfigError(
            "--against compares methods over all their seeds, and --by-seed takes them apart",
            hint="leave one of them out",
        )
    found = results.find(runs)
    made = accuracy_table(
        found, by_seed=by_seed, comparisons=compare(found, against) if against else ()
    )
    show(made, form, intervals=intervals)
