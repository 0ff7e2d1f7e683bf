"""Doing a job: training its bridge, or going on with it, and asking whatever answers.

What it leaves is whole or can be gone on with, wherever it is broken off. It knows one job at a
time, and the rows and models that all of them share.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint

from layerbridge.errors import CheckpointError
from layerbridge.evaluation.baselines.few_shot import few_shot
from layerbridge.evaluation.baselines.tf_idf import tf_idf
from layerbridge.evaluation.baselines.zero_shot import zero_shot
from layerbridge.evaluation.evaluator import evaluate
from layerbridge.evaluation.results import Result
from layerbridge.evaluation.translation import Translator
from layerbridge.models.bridge import LayerBridge
from layerbridge.progress import Meter, meter, say
from layerbridge.reproducing import record
from layerbridge.reproducing.jobs import Job, Left
from layerbridge.reproducing.request import (
    FLOOR,
    LM_ALONE,
    LM_FEW_SHOT,
    TRANSLATE,
    Request,
)
from layerbridge.reproducing.rows import Rows
from layerbridge.reproducing.shared import Shared
from layerbridge.training.output import check_resumable, prepare_output
from layerbridge.training.recipe import Recipe
from layerbridge.training.run import new_bridge, train_bridge, training_arguments

# Below the output folder: no experiment's own, since many tasks share a translator.
TRANSLATIONS = "translations"


def do(job: Job, left: Left, request: Request, rows: Rows, shared: Shared) -> None:
    """Does what is left of a job.

    Args:
        job: any.
        left: as ``jobs.left`` said.
        request: whose job it is.
        rows: to train and to test on.
        shared: the models.

    Raises:
        LayerBridgeError: whatever a user can mend.
    """
    _begin(job, left)
    bridge = _trained(job, rows, shared) if left.train else None
    for protocol in left.protocols:
        if job.recipe is None:
            with meter(job.label) as bar:
                result = _baseline(job, request, rows, shared, bar)
        else:
            bridge = bridge or _loaded(job, shared)
            result = _asked(job, bridge, protocol, rows, shared)
        result.write(job.path(protocol))


def translator(request: Request, device: str) -> Translator:
    """The request's translator; it keeps what it has translated in a folder of its own."""
    assert request.translator is not None
    return Translator(
        request.translator,
        options=request.load,
        device=device,
        folder=request.output_dir / TRANSLATIONS,
    )


def _begin(job: Job, left: Left) -> None:
    """The folder and its record, before anything else is in it."""
    there = record.read(job.folder)
    if there is None or left.changed == "everything":
        if there is not None:
            # First of all: checkpoints of other settings must not be gone on with.
            prepare_output(job.folder, overwrite=True)
        job.record.write(job.folder)
    elif left.changed == "results":
        for stale in job.folder.glob("results/*.json"):
            stale.unlink()
        replace(there, evaluation=job.record.evaluation).write(job.folder)
    elif there.evaluation is None and job.record.evaluation is not None:
        replace(there, evaluation=job.record.evaluation).write(job.folder)


def _trained(job: Job, rows: Rows, shared: Shared) -> LayerBridge:
    recipe = job.recipe
    assert recipe is not None
    # Without it the Trainer would take a GPU that is there.
    only_cpu = {"use_cpu": True} if shared.device == "cpu" else {}
    arguments = training_arguments({**recipe.training, **only_cpu}, job.folder)
    bridge, resume = _started(job, recipe, rows, shared)
    if resume:
        say(f"{job.label}: going on from {get_last_checkpoint(str(job.folder))}")
    trained = train_bridge(bridge, recipe, rows.data, arguments, job.folder, resume=resume)
    there = record.read(job.folder)
    assert there is not None
    replace(there, trained=True).write(job.folder)
    return trained


def _started(job: Job, recipe: Recipe, rows: Rows, shared: Shared) -> tuple[LayerBridge, bool]:
    """The bridge before its first step, or as the last whole checkpoint has it."""
    while True:
        # The bridge's random starts are part of the run as well.
        set_seed(recipe.training["seed"])
        backbones = (shared.encoder, shared.language_model)
        bridge = new_bridge(recipe, rows.data, backbones=backbones)
        last = get_last_checkpoint(str(job.folder))
        if last is None:
            return bridge, False
        try:
            check_resumable(bridge, job.folder)
            return bridge, True
        except CheckpointError as error:
            say(f"{job.label}: {error.problem}; it is passed over")
            shutil.rmtree(last)


def _loaded(job: Job, shared: Shared) -> LayerBridge:
    models: dict[str, Any] = {
        "encoder": shared.encoder,
        "language_model": shared.language_model,
    }
    return LayerBridge.from_pretrained(job.folder, device=shared.device, **models)


def _asked(job: Job, bridge: LayerBridge, protocol: str, rows: Rows, shared: Shared) -> Result:
    assert job.recipe is not None
    with shared.no_cache(), meter(f"{job.label}: {protocol}") as bar:
        return evaluate(
            bridge,
            rows.task,
            protocol=protocol,
            method=job.method,
            seed=job.seed,
            run=str(job.folder),
            settings={
                "training_rows": len(rows.data.train),
                "task_options": job.recipe.task_options,
            },
            progress=bar.by_language,
        )


def _baseline(job: Job, request: Request, rows: Rows, shared: Shared, bar: Meter) -> Result:
    progress = bar.by_language
    if job.method == FLOOR:
        return tf_idf(rows.task, seed=job.seed, progress=progress)
    language_model = shared.language_model
    if job.method == LM_ALONE:
        return zero_shot(language_model, rows.task, progress=progress)
    if job.method == LM_FEW_SHOT:
        return few_shot(language_model, rows.task, seed=job.seed, progress=progress)
    from layerbridge.evaluation.baselines.translate_then_answer import translate_then_answer

    assert job.method == TRANSLATE
    return translate_then_answer(
        translator(request, shared.device),
        language_model,
        rows.task,
        translating=progress,
        progress=progress,
    )
