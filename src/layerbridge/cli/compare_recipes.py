"""``layerbridge compare-recipes``: settings × seeds, trained and compared in one command."""

from __future__ import annotations

import json
from pathlib import Path

from layerbridge.cli import options as o
from layerbridge.cli.values import numbers


def compare_recipes(
    plan: Path = o.argument(..., "PLAN.yaml", "Methods, seeds, models and task (docs/recipes.md)."),
    seeds: str | None = o.option(
        None, "Random seeds of training, comma-separated; the plan's if omitted."
    ),
    dtype: str | None = o.models(
        None, "auto, float32, bfloat16 or float16; float32 on a CPU if omitted."
    ),
    device: o.Device = None,
    overwrite: bool = o.option(False, "Redo runs made with other settings.", "--overwrite"),
    output_dir: o.OutputFolder = Path("runs/recipes"),
    as_json: o.Json = False,
) -> None:
    """Train and compare recipes: settings × seeds on one task.

    Finished runs are not repeated: after an interruption, give the same command again. The
    encoder reads each training text once for all runs.
    """
    from rich.console import Console

    from layerbridge.reproducing import PlanRequest, RecipePlan
    from layerbridge.reproducing import compare_recipes as run

    request = PlanRequest(
        RecipePlan.read(plan),
        output_dir,
        seeds=None if seeds is None else numbers("--seeds", seeds),
        device=device,
        dtype=dtype,
        overwrite=overwrite,
    )
    comparison = run(request)
    Console(stderr=True).print(comparison.grid.rich())
    if as_json:
        print(json.dumps(comparison.document, ensure_ascii=False, indent=1))
        return
    for path in comparison.paths:
        print(path)
