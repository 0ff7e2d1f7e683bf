"""``layerbridge evaluate``: a trained bridge on a task's test rows, per language."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from layerbridge.cli import options as o
from layerbridge.cli.result_file import write_result
from layerbridge.cli.values import language_codes, load_bridge, task_options

if TYPE_CHECKING:
    from layerbridge.tasks import Task


def evaluate(
    context: typer.Context,
    run: o.RunFolder,
    task: o.OptionalTaskName = None,
    data_dir: o.DataDir = None,
    task_option: o.TaskOption = None,
    skip_unknown_labels: o.SkipUnknownLabels = False,
    languages: o.Languages = None,
    protocol: str = o.option("score", "score (rank label words) or generate (as in the paper)."),
    length_normalization: str = o.option(
        "sum", "sum or mean of the log-probabilities of a label word's tokens."
    ),
    center: str | None = o.option(
        None,
        "Move states by language: known or nearest (means of the run), batch (means of the "
        "evaluated texts) or none; known if omitted and the run has means.",
    ),
    batch_size: o.BatchSize = 64,
    training_seed: int | None = o.option(
        None, "Seed the bridge was trained with, for the result file; the run's if omitted."
    ),
    dtype: o.Dtype = "auto",
    device: o.Device = None,
    load_in_4bit: o.LoadIn4Bit = False,
    load_in_8bit: o.LoadIn8Bit = False,
    unquantized: o.Unquantized = False,
    device_map: o.DeviceMap = None,
    encoder_device: o.EncoderDevice = None,
    revision: o.Revision = None,
    trust_remote_code: o.TrustRemoteCode = False,
    allow_pickle: o.AllowPickle = False,
    resume: bool = o.output(
        False, "Go on with an evaluation that was interrupted or killed.", "--resume"
    ),
    output: o.ResultFile = None,
    as_json: o.Json = False,
) -> None:
    """Evaluate a bridge and write a result file.

    Without --task, on the task the bridge was trained on. On N GPUs:
    torchrun --nproc-per-node N -m layerbridge evaluate …
    """
    from layerbridge.errors import ConfigError

    test_task, options = _task(
        run, task, task_options(data_dir, task_option, skip_unknown_labels=skip_unknown_labels)
    )
    codes = language_codes(test_task, languages)

    import scipy  # noqa: F401 # results have intervals: if it is missing, that shows here
    from accelerate import PartialState

    from layerbridge.evaluation import evaluator
    from layerbridge.evaluation.centering import CENTERS
    from layerbridge.evaluation.parts import Parts, going_on
    from layerbridge.models.backbone import choose_device
    from layerbridge.models.inference import NORMALIZATIONS
    from layerbridge.progress import is_first_process, is_one_of_several, meter, say
    from layerbridge.training.node import agreed_dtype, check_device

    # Settings and rows are checked before the models are loaded, which takes a while.
    for name, value, allowed in (
        ("protocol", protocol, evaluator.PROTOCOLS),
        ("length normalization", length_normalization, NORMALIZATIONS),
        ("centering", center or "none", CENTERS),
    ):
        if value not in allowed:
            raise ConfigError(f"unknown {name} {value!r}", allowed=allowed)
    for code in codes:
        test_task.test(code)
    shared = is_one_of_several()
    check_device(device)
    if shared:
        # It chooses this process's GPU. The slowest process may be waited for, for long.
        PartialState(cpu=device == "cpu", timeout=timedelta(days=1))
        with going_on():
            dtype = agreed_dtype(dtype, choose_device(device))
    bridge = load_bridge(run, {**context.params, "dtype": dtype})
    if training_seed is None:
        training_seed = evaluator.training_seed(bridge, run)
        if training_seed is None:
            say(f"training seed of {run} unknown, recorded as 0; --training-seed N for another")
    folder = Path(run) / "results" if Path(run).is_dir() else Path("results")
    path = output or folder / f"{test_task.name}-{protocol}.json"
    parts = Parts(path, resume=resume, shared=shared)
    with going_on(), meter(f"{test_task.name}, {protocol}") as bar:
        result = evaluator.evaluate(
            bridge,
            test_task,
            codes,
            protocol=protocol,
            length_normalization=length_normalization,
            center=center,
            batch_size=batch_size,
            seed=training_seed,
            run=run,
            settings={"task_options": options} if options else None,
            progress=bar.by_language,
            parts=parts,
        )
    if is_first_process():
        write_result(context, result, path, as_json=as_json)
        if path.parent == Path(run) / "results":
            from layerbridge.report.card import update_card

            update_card(Path(run))
    with going_on():
        parts.remove()


def _task(run: str, name: str | None, options: dict[str, Any]) -> tuple[Task, dict[str, Any]]:
    """Returns the named task, or the run's, and its options.

    The run's own options hold unless overridden: a seed can decide which rows were trained on.

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
                f"no task given, and {run!r} has no {recipe.FILE} that names one",
                hint="--task NAME; layerbridge tasks lists them",
            )
        name = trained_on.task
    if name == trained_on.task:
        options = {**trained_on.task_options, **options}
    return tasks.get(name, **options), options
