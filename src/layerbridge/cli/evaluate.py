"""``layerbridge evaluate``: a trained bridge on a task's test rows, language by language."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from layerbridge.cli.language_codes import LANGUAGES, codes_of
from layerbridge.cli.result_file import JSON, leave
from layerbridge.cli.tasks import task_options

if TYPE_CHECKING:
    from layerbridge.tasks import Task


def evaluate(
    run: str = typer.Argument(..., help="The run's folder, or a hub id."),
    task: str | None = typer.Option(
        None, help="A task (see `layerbridge tasks`), or a YAML file; the run's if not given."
    ),
    data_dir: list[Path] | None = typer.Option(
        None, help="A folder with the task's rows; may be given again."
    ),
    task_option: list[str] | None = typer.Option(
        None, help="An option of the task, NAME=VALUE; may be given again."
    ),
    languages: str | None = LANGUAGES,
    protocol: str = typer.Option("score", help="score (options ranked) or generate (the paper's)."),
    normalize: str = typer.Option("sum", help="For score: sum or mean over an option's tokens."),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="The result file; RUN/results/… if not given."
    ),
    batch_size: int = typer.Option(64, min=1, help="Rows at a time."),
    dtype: str = typer.Option("auto", help="Of the backbones."),
    device: str | None = typer.Option(None, help="cpu, cuda, …; the best there is if not given."),
    seed: int = typer.Option(0, help="The training's seed, for the record."),
    revision: str | None = typer.Option(None, help="Of a bridge on the hub."),
    trust_remote_code: bool = typer.Option(False, "--trust-remote-code"),
    allow_pickle: bool = typer.Option(False, "--allow-pickle"),
    as_json: bool = JSON,
) -> None:
    """Evaluate a bridge and write a result file."""
    from layerbridge.errors import ConfigError

    wanted, options = _task(run, task, task_options(data_dir, task_option))
    codes = codes_of(wanted, languages)

    from layerbridge.evaluation.evaluator import PROTOCOLS
    from layerbridge.evaluation.evaluator import evaluate as evaluate_bridge
    from layerbridge.models.backbone import choose_device
    from layerbridge.models.bridge import LayerBridge
    from layerbridge.models.inference import NORMALIZATIONS
    from layerbridge.progress import meter

    # Before the models are read, which takes a while.
    for name, value, allowed in (
        ("protocol", protocol, PROTOCOLS),
        ("normalize", normalize, NORMALIZATIONS),
    ):
        if value not in allowed:
            raise ConfigError(f"unknown {name} {value!r}", allowed=allowed)
    for code in codes:
        wanted.test(code)
    bridge = LayerBridge.from_pretrained(
        run,
        revision=revision,
        dtype=dtype,
        device=choose_device(device),
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    with meter(f"{wanted.name}, {protocol}") as bar:
        result = evaluate_bridge(
            bridge,
            wanted,
            codes,
            protocol=protocol,
            length_normalization=normalize,
            batch_size=batch_size,
            seed=seed,
            run=run,
            settings={"task_options": options} if options else None,
            progress=bar.by_language,
        )
    folder = Path(run) / "results" if Path(run).is_dir() else Path("results")
    leave(result, output or folder / f"{wanted.name}-{protocol}.json", as_json=as_json)


def _task(run: str, name: str | None, options: dict[str, Any]) -> tuple[Task, dict[str, Any]]:
    """The task that was asked for, or the run's, and its options.

    The run's options hold where they are not given again: a seed can decide what was trained on.

    Raises:
        ConfigError: no task was given, and the run was not trained on one.
    """
    from layerbridge import tasks
    from layerbridge.errors import ConfigError
    from layerbridge.training import recipe

    file = Path(run) / recipe.FILE
    trained_on = recipe.read(file) if file.is_file() else recipe.Recipe()
    if name is None:
        if trained_on.task is None:
            raise ConfigError(
                f"no task was given, and {run!r} has no {recipe.FILE} that names one",
                hint="--task NAME; layerbridge tasks lists them",
            )
        name = trained_on.task
    if name == trained_on.task:
        options = {**trained_on.task_options, **options}
    return tasks.get(name, **options), options
