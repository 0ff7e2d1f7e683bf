"""``layerbridge reproduce``: the paper's tables and figure, one command each."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from layerbridge.cli import options as o
from layerbridge.cli.values import numbers


def reproduce(
    context: typer.Context,
    experiment: str = o.argument(
        ..., "EXPERIMENT", "table1, table2, table3, table4, table5, figure2, xsid or sib200."
    ),
    preset: str = o.option("small", "paper, small (two CPU cores) or demo (minutes)."),
    seeds: str | None = o.option(
        None, "Random seeds of training, comma-separated; the preset's if omitted."
    ),
    methods: str | None = o.option(
        None,
        "Comma-separated: tf-idf, zero-shot-lm, few-shot-lm, translate, last, uniform, "
        "global-softmax, token-softmax; all but uniform if omitted.",
    ),
    instruction: str | None = o.option(None, "English prompt, instead of the task's; '' for none."),
    overwrite: bool = o.option(False, "Redo runs made with other settings.", "--overwrite"),
    dry_run: bool = o.option(False, "Print the plan: runs, downloads, files, time.", "--dry-run"),
    data_dir: o.DataDir = None,
    max_rows: o.MaxRows = None,
    max_test: int | None = o.data(None, "Maximum test rows per language.", min=1),
    encoder: str | None = o.models(
        None, "Encoder: folder, zoo:NAME or hub ID; the preset's if omitted."
    ),
    language_model: str | None = o.models(
        None, "Language model: folder, zoo:NAME or hub ID; the preset's if omitted."
    ),
    translator: str | None = o.models(
        None, "Adds translate-then-answer: NLLB, M2M100 or Marian; folder or hub ID."
    ),
    dtype: str | None = o.models(
        None,
        "auto, float32, bfloat16 or float16; the preset's (float32 on a CPU) if omitted. "
        "auto is bfloat16 where the hardware supports it.",
    ),
    device: o.Device = None,
    allow_pickle: o.AllowPickle = False,
    output_dir: o.OutputFolder = Path("runs/reproduce"),
    as_json: o.Json = False,
) -> None:
    """Reproduce a table of the paper, and compare with it.

    All methods of the table are trained and evaluated. Finished runs are not repeated: after an
    interruption, give the same command again. The paths of the files are printed on stdout, the
    table on stderr. See docs/reproduce.md.
    """
    from rich.console import Console

    from layerbridge.reproducing import Request
    from layerbridge.reproducing import plan as make_plan
    from layerbridge.reproducing import reproduce as run

    lists = {
        "seeds": None if seeds is None else numbers("--seeds", seeds),
        "methods": None if methods is None else methods.replace(",", " ").split(),
        "data_dir": [str(folder) for folder in data_dir or ()],
    }
    settings = {**context.params, **lists}
    del settings["dry_run"], settings["as_json"]
    request = Request(**settings)
    if dry_run:
        plan = make_plan(request)
        if as_json:
            print(json.dumps(plan.document, ensure_ascii=False, indent=1))
            return
        if plan.steps:
            Console().print(plan.grid.rich())
        for note in plan.notes:
            print(note)
        return
    outcome = run(request)
    for table in outcome.tables:
        Console(stderr=True).print(table.rich())
    if as_json:
        print(json.dumps(outcome.document, ensure_ascii=False, indent=1))
        return
    for path in outcome.paths:
        print(path)
