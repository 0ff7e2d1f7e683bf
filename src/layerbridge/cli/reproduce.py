"""``layerbridge reproduce``: the paper's tables and figure, a command each."""

from __future__ import annotations

import json
from pathlib import Path

import typer


def reproduce(
    experiment: str = typer.Argument(
        ..., help="table1, table2, table3, table4, table5, figure2, xsid or sib200."
    ),
    preset: str = typer.Option(
        "small", help="paper (its models and budget), small (two CPU cores) or demo (minutes)."
    ),
    seeds: str | None = typer.Option(None, help="With commas, 0,1,2; the preset's if not given."),
    data_dir: list[Path] | None = typer.Option(
        None, help="A folder with the task's rows; may be given again."
    ),
    output_dir: Path = typer.Option(
        Path("runs/reproduce"), "--output-dir", "-o", help="Where everything is written."
    ),
    max_rows: int | None = typer.Option(None, min=1, help="Training rows; else the preset's."),
    max_test: int | None = typer.Option(
        None, min=1, help="Test rows a language; else the preset's."
    ),
    methods: str | None = typer.Option(
        None,
        help="With commas, of floor, lm-alone, lm-few-shot, translate, last, uniform, "
        "global-softmax, token-softmax; all but uniform if not given.",
    ),
    translator: str | None = typer.Option(
        None, help="Adds translate-then-answer: NLLB, M2M100 or Marian, folder or hub id."
    ),
    encoder: str | None = typer.Option(None, help="Instead of the preset's: a copy of yours."),
    language_model: str | None = typer.Option(None, help="The same."),
    device: str | None = typer.Option(None, help="cpu, cuda, …; the best there is if not given."),
    dtype: str | None = typer.Option(
        None,
        help="auto, float32, bfloat16 or float16; else the preset's, which is float32 on a CPU. "
        "auto takes bfloat16 where the hardware multiplies it.",
    ),
    instruction: str | None = typer.Option(
        None, help="English after the soft prompt, instead of the task's; '' for none."
    ),
    allow_pickle: bool = typer.Option(
        False, "--allow-pickle", help="Also read weights that are not safetensors."
    ),
    overwrite: bool = typer.Option(
        False, "--overwrite", help="Do again what was done with other settings."
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Tell what would be done, fetched and written, and how long."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Train, evaluate and compare all methods of a table, and put the paper's numbers beside them.

    What is there already is not done again: after an interruption, give the same command. Paths of
    what was written are printed, the table on stderr. See docs/reproduce.md.
    """
    from rich.console import Console

    from layerbridge.reproducing import Request
    from layerbridge.reproducing import plan as planned
    from layerbridge.reproducing import reproduce as run

    request = Request(
        experiment,
        preset=preset,
        seeds=None if seeds is None else _numbers(seeds),
        output_dir=output_dir,
        data_dir=[str(folder) for folder in data_dir or ()],
        methods=None if methods is None else _words(methods),
        max_rows=max_rows,
        max_test=max_test,
        encoder=encoder,
        language_model=language_model,
        translator=translator,
        allow_pickle=allow_pickle,
        device=device,
        dtype=dtype,
        instruction=instruction,
        overwrite=overwrite,
    )
    if dry_run:
        found = planned(request)
        if as_json:
            print(json.dumps(found.document, ensure_ascii=False, indent=1))
            return
        if found.steps:
            Console().print(found.grid.rich())
        for note in found.notes:
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


def _numbers(given: str) -> list[int]:
    """``0,1,2`` or ``"0 1 2"``.

    Raises:
        ConfigError: a word is no whole number.
    """
    from layerbridge.errors import ConfigError

    try:
        return [int(word) for word in _words(given)]
    except ValueError:
        raise ConfigError(
            f"--seeds {given!r} are no numbers", allowed="whole numbers with commas, such as 0,1,2"
        ) from None


def _words(given: str) -> list[str]:
    """``a,b`` or ``"a b"``."""
    return given.replace(",", " ").split()
