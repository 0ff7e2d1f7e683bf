"""The plan of a dry run: what a command would do, how long it takes and what room it needs.

It fetches nothing and loads no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.filesize import decimal

from layerbridge.benchmarking.shapes import PREFIX
from layerbridge.errors import OutputError
from layerbridge.report.tables.grid import ABSENT, Grid
from layerbridge.reproducing import estimate
from layerbridge.reproducing.backbones import place_for
from layerbridge.reproducing.jobs import Job, Remaining, jobs, remaining
from layerbridge.reproducing.request import TF_IDF, TRANSLATE, Request

HEAD = ["method", "seed", "state", "steps", "rows read", "test rows", "time"]
# Of one answer in a result file.
ANSWER_BYTES = 120


@dataclass(frozen=True)
class Step:
    """One job of the plan.

    Attributes:
        rows: read in training, repetitions included.
        test_rows: to answer, in all languages and protocols; None if unknown.
        seconds: estimate; None if unknown.
    """

    method: str
    seed: int
    state: str
    steps: int
    rows: int
    test_rows: int | None
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """The plan of a command: a step per job, and sentences."""

    request: Request
    steps: tuple[Step, ...]
    notes: tuple[str, ...]

    @property
    def grid(self) -> Grid:
        """A table with a row per job."""
        body = [
            [
                step.method,
                str(step.seed),
                step.state,
                str(step.steps or ABSENT),
                str(step.rows or ABSENT),
                str(ABSENT if step.test_rows is None else step.test_rows),
                duration(step.seconds),
            ]
            for step in self.steps
        ]
        return Grid(HEAD, body, 3)

    @property
    def document(self) -> dict[str, Any]:
        """The same as JSON values."""
        steps = [asdict(step) for step in self.steps]
        facts = self.request.facts()
        return {**facts, "dry_run": True, "jobs": steps, "notes": list(self.notes)}


def plan(request: Request) -> Plan:
    """Plans the command.

    Raises:
        ConfigError: there is no such device here.
        DataError: a folder is missing, or has no files of the task.
    """
    if request.experiment.kind == "latency":
        timing = request.preset.timing
        notes = [
            f"{timing.repeat} rounds of {timing.texts} texts, each with {timing.new_tokens} new "
            "tokens and with one",
            *_model_notes((timing.encoder, timing.language_model)),
            "time: not estimated, minutes on most machines",
        ]
        return Plan(request, (), tuple(notes))
    planner = _Planner(request)
    steps = [planner.step(job) for job in jobs(request, None)]
    return Plan(request, tuple(steps), tuple(planner.notes(steps)))


def duration(seconds: float | None) -> str:
    """Formats a time: ``40 s``, ``12 min``, ``3.5 h``, ``12 days``."""
    if seconds is None:
        return ABSENT
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


class _Planner:
    """Estimates the jobs of a request."""

    def __init__(self, request: Request) -> None:
        self.request = request
        preset, task = request.preset, request.task()
        info = task.dataset_info()
        self.tokens = estimate.text_tokens(task)
        self.source = f"rows of {task.name}: {info.place}; a text has about {self.tokens} tokens"
        self.rows = min(preset.rows, info.train or preset.rows)
        counts = list(info.test.values())
        if (most := preset.test_rows) is not None:
            counts = [min(count or most, most) for count in counts]
        self.test_rows = None if None in counts else sum(count or 0 for count in counts)
        self.sizes = estimate.sizes(request.encoder, request.language_model)
        if self.sizes:
            self.speed = estimate.speed(request)
            self.state_bytes = self.sizes.state_bytes(self.rows, self.tokens, request.dtype)
            self.states_in = place_for(self.state_bytes, request.device, request.runs)

    def step(self, job: Job) -> Step:
        state, left = self._state(job)
        steps = rows = 0
        if left.train and job.recipe is not None:
            preset, training = self.request.preset, job.recipe.training
            if "max_steps" in training:
                steps = training["max_steps"]
                rows = steps * preset.rows_per_step
            else:
                epochs = training["num_train_epochs"]
                steps, rows = epochs * -(-self.rows // preset.rows_per_step), epochs * self.rows
        answers = None if self.test_rows is None else self.test_rows * len(left.protocols)
        seconds = None
        if self.sizes is not None:
            alone = job.recipe is None and job.method != TF_IDF
            flop = self.sizes.flop(
                self.tokens,
                trained=rows,
                encoded=0 if self.states_in else rows,
                answered=(answers or 0) if job.recipe is not None else 0,
                answered_alone=(answers or 0) if alone else 0,
            )
            seconds = flop / self.speed
        return Step(job.method, job.seed, state, steps, rows, answers, seconds)

    def _state(self, job: Job) -> tuple[str, Remaining]:
        try:
            left = remaining(job, overwrite=self.request.overwrite)
        except OutputError as error:
            return error.problem.removeprefix(f"{str(job.folder)!r} "), job.everything
        if left.done:
            return "done", left
        if left.changed != "nothing":
            return "other settings, to be replaced", left
        started = job.folder.is_dir() and any(job.folder.iterdir())
        return ("started" if started else "to do"), left

    def notes(self, steps: Sequence[Step]) -> list[str]:
        request, sizes = self.request, self.sizes
        models = [request.encoder, request.language_model]
        if request.translator is not None and TRANSLATE in request.methods:
            models.append(request.translator)
        notes = [self.source, *_model_notes(models)]
        if sizes is None:
            notes.append("time: unknown for these models")
        else:
            trained = Counter(step.method for step in steps if step.steps)
            checkpoints = sum(n * sizes.checkpoint_bytes(name) for name, n in trained.items())
            answers = ANSWER_BYTES * sum(step.test_rows or 0 for step in steps)
            notes.append(
                f"checkpoints: {decimal(int(checkpoints))}, result files: {decimal(answers)}"
            )
            seconds = sum(step.seconds or 0.0 for step in steps)
            if trained:
                kept = f"kept in {self.states_in} during training" if self.states_in else "not kept"
                size = decimal(int(self.state_bytes))
                notes.append(f"the encoder's states of the training texts: {size}, {kept}")
                if self.states_in:
                    seconds += sizes.flop(self.tokens, encoded=self.rows) / self.speed
            notes.append(f"total time: about {duration(seconds)} on {request.device}")
        if self.test_rows is None:
            notes.append("the test rows are not on this machine: their time is not included")
        if TRANSLATE in request.methods:
            notes.append("the time of translation is not included")
        for name in request.forbidden_pickles:
            notes.append(f"{name} is published as a pickle: it needs --allow-pickle")
        return notes


def _model_notes(names: Sequence[str]) -> list[str]:
    notes = []
    for name in names:
        size = estimate.bytes_to_fetch(name)
        if name.startswith(PREFIX):
            notes.append(f"{name}: random weights of that shape, nothing to fetch")
        elif size is None:
            notes.append(f"{name}: to be fetched if it is not here")
        else:
            notes.append(f"{name}: {f'{decimal(int(size))} to fetch' if size else 'here'}")
    return notes
