"""The runner: does the jobs that are not done. It can be interrupted and resumed at any point."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint

from layerbridge.errors import CheckpointError, ConfigError
from layerbridge.evaluation.baselines.few_shot import SHOTS, draw, few_shot
from layerbridge.evaluation.baselines.tf_idf import tf_idf
from layerbridge.evaluation.baselines.zero_shot import zero_shot
from layerbridge.evaluation.evaluator import evaluate
from layerbridge.evaluation.results import Result
from layerbridge.evaluation.translation import Translator
from layerbridge.hub.sources import resolve
from layerbridge.models.bridge import LayerBridge
from layerbridge.progress import Meter, meter, say
from layerbridge.reproducing import record
from layerbridge.reproducing.backbones import Backbones
from layerbridge.reproducing.jobs import Job, Remaining, remaining
from layerbridge.reproducing.request import FEW_SHOT, TF_IDF, TRANSLATE, ZERO_SHOT, Request
from layerbridge.reproducing.rows import Rows
from layerbridge.tasks import Row
from layerbridge.training.output import prepare_output
from layerbridge.training.recipe import Recipe
from layerbridge.training.resume import check_resumable
from layerbridge.training.run import new_bridge, train_bridge, training_arguments

# What the record calls the time of training; that of an evaluation goes by its protocol.
TRAINING = "training"
# In the output folder, because experiments can share a translator.
TRANSLATIONS = "translations"


def run_jobs(jobs: Sequence[Job], request: Request, rows: Rows) -> None:
    """Does every job that is not done.

    Raises:
        LayerBridgeError: invalid settings, data or models; where possible before the first job.
    """
    states = [(job, remaining(job, overwrite=request.overwrite)) for job in jobs]
    todo = [(job, state) for job, state in states if not state.done]
    say(f"{len(jobs) - len(todo)} of {len(jobs)} runs are done already")
    if todo:
        _Runner(request, rows).run(todo)


class _Runner:
    """Does jobs one after another, with the same rows and models."""

    def __init__(self, request: Request, rows: Rows) -> None:
        self.request = request
        self.rows = rows
        self.backbones = Backbones(request)

    def run(self, jobs: Sequence[tuple[Job, Remaining]]) -> None:
        self._check({job.method for job, _ in jobs})
        data = self.rows.data
        data.report()
        say(f"{len(data.train)} English rows of {data.name}; {self.backbones.device}")
        trained = [number for number, (_, state) in enumerate(jobs) if state.train]
        with ExitStack() as states:
            for number, (job, state) in enumerate(jobs):
                if trained and number == trained[0]:
                    texts = [row.text for row in [*data.train, *self._watched(jobs)]]
                    states.enter_context(self.backbones.states(texts, self.request.runs))
                only = "" if state.train else f": {', '.join(state.protocols)}"
                say(f"[{number + 1}/{len(jobs)}] {job.label}{only}")
                self._do(job, state)
                if trained and number == trained[-1]:
                    states.close()

    def _watched(self, jobs: Sequence[tuple[Job, Remaining]]) -> Sequence[Row]:
        """Returns the validation rows if a training reads them."""
        strategies = (
            job.recipe.training.get("eval_strategy", "no")
            for job, state in jobs
            if state.train and job.recipe is not None
        )
        return self.rows.data.validation if any(each != "no" for each in strategies) else []

    def _check(self, methods: set[str]) -> None:
        for name in self.request.forbidden_pickles:
            raise ConfigError(
                f"{name} is published as a pickle, and loading a pickle can run code",
                hint="--allow-pickle if you trust it, or --encoder with safetensors",
            )
        if FEW_SHOT in methods:
            draw(self.rows.task, SHOTS, 0)  # checks that there are enough rows
        if TRANSLATE in methods:
            self._translator().check(code for code in self.rows.counts if code != "en")
        for name in (self.request.encoder, self.request.language_model):
            resolve(name)  # fetches those of the zoo before the work starts

    def _translator(self) -> Translator:
        assert self.request.translator is not None
        return Translator(
            self.request.translator,
            options=self.request.load,
            device=self.backbones.device,
            folder=self.request.output_dir / TRANSLATIONS,
        )

    def _do(self, job: Job, state: Remaining) -> None:
        _prepare(job, state)
        bridge = self._train(job, job.recipe) if job.recipe and state.train else None
        for protocol in state.protocols:
            started = time.monotonic()
            if job.recipe is None:
                with meter(job.label) as bar:
                    result = self._baseline(job, bar)
            else:
                bridge = bridge or LayerBridge.from_pretrained(
                    str(job.run_of or job.folder),
                    device=self.backbones.device,
                    encoder=self.backbones.encoder,
                    language_model=self.backbones.language_model,
                )
                result = self._evaluate(job, job.recipe, bridge, protocol)
            result.write(job.path(protocol))
            _note_seconds(job, protocol, time.monotonic() - started)

    def _train(self, job: Job, recipe: Recipe) -> LayerBridge:
        device = self.backbones.device
        arguments = training_arguments(recipe.training, job.folder, device=device)
        bridge, resume = self._start(job, recipe)
        started = time.monotonic()
        train_bridge(
            bridge,
            recipe,
            self.rows.data,
            arguments,
            job.folder,
            resume=resume,
            then="the same command again",
        )
        # A part of a training tells nothing about the time of all.
        seconds = {} if resume else {TRAINING: round(time.monotonic() - started, 2)}
        current = record.read(job.folder)
        assert current is not None
        replace(current, trained=True, seconds={**current.seconds, **seconds}).write(job.folder)
        return bridge

    def _start(self, job: Job, recipe: Recipe) -> tuple[LayerBridge, bool]:
        """Returns the bridge to train, and whether it resumes from a checkpoint."""
        while True:
            # Before the bridge is built: its random start is part of the run.
            set_seed(recipe.training["seed"])
            backbones = (self.backbones.encoder, self.backbones.language_model)
            last = get_last_checkpoint(str(job.folder)) if job.folder.is_dir() else None
            bridge = new_bridge(
                recipe, self.rows.data, backbones=backbones, resume=last is not None
            )
            if last is None:
                return bridge, False
            try:
                check_resumable(bridge, job.folder)
                return bridge, True
            except CheckpointError as error:
                say(f"{job.label}: {error.problem}; skipping it")
                shutil.rmtree(last)

    def _evaluate(self, job: Job, recipe: Recipe, bridge: LayerBridge, protocol: str) -> Result:
        rows = self.rows
        settings = {"training_rows": len(rows.data.train), "task_options": recipe.task_options}
        center, centering = self.request.center(job.method)
        with self.backbones.no_cache(), meter(f"{job.label}: {protocol}") as bar:
            return evaluate(
                bridge,
                rows.task,
                protocol=protocol,
                center=center,
                centering=centering,
                method=job.method,
                seed=job.seed,
                run=str(job.run_of or job.folder),
                settings=settings,
                progress=bar.by_language,
            )

    def _baseline(self, job: Job, bar: Meter) -> Result:
        task, progress = self.rows.task, bar.by_language
        if job.method == TF_IDF:
            return tf_idf(task, seed=job.seed, progress=progress)
        language_model = self.backbones.language_model
        if job.method == ZERO_SHOT:
            return zero_shot(language_model, task, progress=progress)
        if job.method == FEW_SHOT:
            return few_shot(language_model, task, seed=job.seed, progress=progress)
        from layerbridge.evaluation.baselines.translate_then_answer import translate_then_answer

        return translate_then_answer(
            self._translator(), language_model, task, translating=progress, progress=progress
        )


def _note_seconds(job: Job, part: str, seconds: float) -> None:
    """Adds to the record how long a part took."""
    current = record.read(job.folder)
    assert current is not None
    replace(current, seconds={**current.seconds, part: round(seconds, 2)}).write(job.folder)


def _prepare(job: Job, state: Remaining) -> None:
    """Writes the folder's record, after removing what was made with other settings."""
    old = record.read(job.folder)
    if old is None or state.changed == "everything":
        if old is not None:
            # Before the record: old checkpoints must never be resumed from.
            prepare_output(job.folder, overwrite=True)
        job.record.write(job.folder)
        return
    if state.changed == "results":
        for stale in job.folder.glob("results/*.json"):
            stale.unlink()
    if state.changed == "results" or old.evaluation is None:
        replace(old, evaluation=job.record.evaluation).write(job.folder)
