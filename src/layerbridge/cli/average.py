"""``layerbridge average``: one bridge from several runs."""

from __future__ import annotations

from typing import Annotated

import typer

from layerbridge.cli import options as o

Runs = Annotated[
    list[str], typer.Argument(metavar="RUN", help="Runs that share their start: folders, hub IDs.")
]


def average(
    runs: Runs,
    output_dir: o.OutputFolder,
    overwrite: bool = o.output(False, "Replace an earlier run in the folder.", "--overwrite"),
) -> None:
    """Average the tensors of several runs into one bridge.

    The runs must share their start: train them with one --start-seed and a --seed each.
    """
    from layerbridge.training.run_average import average_runs

    average_runs(runs, output_dir, overwrite=overwrite)
    print(output_dir)
