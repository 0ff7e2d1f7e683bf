"""Jobs: each method with each seed, its folder, its settings, and what of it is left to do.

Knows requests and folders; it loads nothing and does no work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from layerbridge.errors import OutputError, ResultError
from layerbridge.evaluation import results
from layerbridge.evaluation.baselines.few_shot import SHOTS
from layerbridge.evaluation.results import CLASSIFIER
from layerbridge.reproducing import record
from layerbridge.reproducing.record import UNKNOWN, Record, Settings
from layerbridge.reproducing.request import (
    BASELINES,
    FLOOR,
    LM_FEW_SHOT,
    TRANSLATE,
    Request,
)
from layerbridge.reproducing.rows import Rows
from layerbridge.training.recipe import Recipe


@dataclass(frozen=True)
class Job:
    """One method with one seed.

    Attributes:
        method: name of its folder; of a bridge, the fusion.
        seed: of the training, or of the examples' choice; 0 where nothing is drawn.
        folder: of the run.
        recipe: of a bridge; None for a method that trains none.
        record: what the folder's record will say at first.
        protocols: each gives a result; none where only the training is wanted.
        task: name.
    """

    method: str
    seed: int
    folder: Path
    recipe: Recipe | None
    record: Record
    protocols: tuple[str, ...]
    task: str

    @property
    def label(self) -> str:
        """What progress lines call it."""
        return f"{self.method}, seed {self.seed}"

    def path(self, protocol: str) -> Path:
        """Of a result."""
        return self.folder / "results" / f"{self.task}-{protocol}.json"


class Left(NamedTuple):
    """What of a job is left to do.

    Attributes:
        train: whether the bridge must be trained, or gone on with.
        protocols: results that are not there.
        changed: what of the folder was made with other settings, and goes: everything, the
            results alone, or nothing.
    """

    train: bool
    protocols: tuple[str, ...]
    changed: Literal["everything", "results", "nothing"] = "nothing"

    @property
    def nothing(self) -> bool:
        """Whether the job is done."""
        return not self.train and not self.protocols


def jobs(request: Request, rows: Rows | None) -> list[Job]:
    """All jobs of an experiment: the methods to beat, then the bridges, a seed after the other.

    Args:
        request: of an accuracy or of weights.
        rows: None where they were not read.
    """
    if request.experiment.kind == "weights":
        return [_bridge(request, "global-softmax", seed, rows, ()) for seed in request.seeds]
    made = []
    for baseline in (method for method in request.methods if method in BASELINES):
        seeds = request.seeds if baseline == LM_FEW_SHOT else (0,)
        made += [_baseline(request, baseline, seed, rows) for seed in seeds]
    return made + [
        _bridge(request, fusion, seed, rows, request.preset.protocols)
        for seed in request.seeds
        for fusion in request.methods
        if fusion not in BASELINES
    ]


def left(job: Job, *, overwrite: bool = False) -> Left:
    """What is left to do of a job.

    Args:
        job: any.
        overwrite: what was made with other settings counts as not there.

    Raises:
        OutputError: it was made with other settings, or its folder holds something else.
    """
    everything = Left(job.recipe is not None, job.protocols)
    there = record.read(job.folder)
    if there is None:
        return everything
    of_training = record.difference(there.training, job.record.training)
    of_results = None
    if there.evaluation is not None and job.record.evaluation is not None:
        of_results = record.difference(there.evaluation, job.record.evaluation)
    changed = of_training or of_results
    if changed and not overwrite:
        name, before, now = changed
        raise OutputError(
            f"{str(job.folder)!r} was made with {name} {before!r}, and now it is {now!r}",
            hint="--overwrite to do it again, or another --output-dir",
        )
    if of_training:
        return everything._replace(changed="everything")
    train = job.recipe is not None and not there.trained
    if of_results:
        return Left(train, job.protocols, "results")
    if train:
        return everything
    return Left(False, tuple(name for name in job.protocols if not _is_result(job.path(name))))


def todo(jobs: Sequence[Job], *, overwrite: bool = False) -> list[tuple[Job, Left]]:
    """The jobs that are not done, each with what is left of it.

    Raises:
        OutputError: as ``left``; before anything was done.
    """
    states = [(job, left(job, overwrite=overwrite)) for job in jobs]
    return [(job, state) for job, state in states if not state.nothing]


def _is_result(path: Path) -> bool:
    try:
        results.read(path)
    except ResultError:
        return False  # not there, or damaged: it is made again
    return True


def _bridge(
    request: Request, fusion: str, seed: int, rows: Rows | None, protocols: tuple[str, ...]
) -> Job:
    recipe = request.recipe(fusion, seed)
    training = {"recipe": _told(recipe), "training_rows": rows.trained if rows else UNKNOWN}
    evaluation = _evaluation(request, rows) if protocols else None
    first = Record(training, evaluation)
    return Job(
        fusion,
        seed,
        _folder(request, fusion, seed),
        recipe,
        first,
        protocols,
        request.experiment.task,
    )


def _baseline(request: Request, method: str, seed: int, rows: Rows | None) -> Job:
    settings = _evaluation(request, rows)
    if method in (FLOOR, LM_FEW_SHOT):
        # They read English rows, too.
        settings["rows"] = request.preset.rows
        settings["training_rows"] = rows.trained if rows else UNKNOWN
    if method != FLOOR:
        settings["language_model"] = request.preset.language_model
        settings["dtype"] = request.dtype
    if method == LM_FEW_SHOT:
        settings["shots"] = SHOTS
    if method == TRANSLATE:
        settings["translator"] = request.translator
    protocols = (CLASSIFIER,) if method == FLOOR else ("score",)
    first = Record({}, settings)
    return Job(
        method,
        seed,
        _folder(request, method, seed),
        None,
        first,
        protocols,
        request.experiment.task,
    )


def _folder(request: Request, method: str, seed: int) -> Path:
    return request.runs / method / f"seed-{seed}"


def _evaluation(request: Request, rows: Rows | None) -> Settings:
    return {
        "test_rows": request.preset.test_rows,
        "tested": rows.tested if rows else UNKNOWN,
    }


def _told(recipe: Recipe) -> Settings:
    """What of a recipe decides a training: not where rows lie, nor how many are tested."""
    settings = {name: value for name, value in asdict(recipe).items() if value}
    options = settings.pop("task_options")
    settings["backbones"].pop("allow_pickle", None)
    return {**settings, "train_per_label": options["train_per_label"]}
