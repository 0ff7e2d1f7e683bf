"""Jobs: each method with each seed, its folder and settings, and what is left to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from layerbridge.errors import ResultError
from layerbridge.evaluation import results
from layerbridge.evaluation.baselines.few_shot import SHOTS
from layerbridge.evaluation.results import CLASSIFIER
from layerbridge.reproducing import record
from layerbridge.reproducing.record import UNKNOWN, Record, Settings
from layerbridge.reproducing.request import (
    BASELINES,
    FEW_SHOT,
    OLD_NAMES,
    TF_IDF,
    TRANSLATE,
    Request,
)
from layerbridge.reproducing.rows import Rows
from layerbridge.training.recipe import Recipe


@dataclass(frozen=True)
class Job:
    """One method with one seed.

    Attributes:
        method: a baseline or a fusion.
        seed: of training or of the examples; 0 where nothing is random.
        folder: of the run.
        recipe: of a bridge; None for a baseline.
        record: what the folder's record starts with.
        protocols: a result for each; none if only training is needed.
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
        """Name in progress lines."""
        return f"{self.method}, seed {self.seed}"

    def path(self, protocol: str) -> Path:
        """Returns the path of a result."""
        return self.folder / "results" / f"{self.task}-{protocol}.json"


class Remaining(NamedTuple):
    """What is left to do of a job.

    Attributes:
        train: whether to train, or to resume training.
        protocols: missing results.
        changed: what was made with other settings and is to be removed.
    """

    train: bool
    protocols: tuple[str, ...]
    changed: Literal["everything", "results", "nothing"] = "nothing"

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return not self.train and not self.protocols


def jobs(request: Request, rows: Rows | None) -> list[Job]:
    """Returns all jobs of an experiment: baselines, then bridges, seed by seed.

    Args:
        request: of accuracies or weights.
        rows: None if they were not read.
    """
    if request.experiment.kind == "weights":
        return [_bridge(request, "global-softmax", seed, rows, ()) for seed in request.seeds]
    return [
        _baseline(request, method, seed, rows)
        for method in request.methods
        if method in BASELINES
        for seed in (request.seeds if method == FEW_SHOT else (0,))
    ] + [
        _bridge(request, method, seed, rows, request.preset.protocols)
        for seed in request.seeds
        for method in request.methods
        if method not in BASELINES
    ]


def remaining(job: Job, *, overwrite: bool = False) -> Remaining:
    """Returns what is left to do of a job.

    Args:
        job: any.
        overwrite: replace what was made with other settings.

    Raises:
        OutputError: it was made with other settings, or its folder holds something else.
    """
    everything = Remaining(job.recipe is not None, job.protocols)
    found = record.read(job.folder)
    if found is None:
        return everything
    new_training = record.difference(found.training, job.record.training)
    new_results = None
    if found.evaluation is not None and job.record.evaluation is not None:
        new_results = record.difference(found.evaluation, job.record.evaluation)
    record.check_same(job.folder, new_training or new_results, overwrite=overwrite)
    if new_training:
        return everything._replace(changed="everything")
    train = everything.train and not found.trained
    if new_results:
        return Remaining(train, job.protocols, "results")
    if train:
        return everything
    missing = [name for name in job.protocols if not _is_result(job.path(name))]
    return Remaining(False, tuple(missing))


def todo(jobs: Sequence[Job], *, overwrite: bool = False) -> list[tuple[Job, Remaining]]:
    """Returns the jobs that are not done, each with what is left.

    Raises:
        OutputError: as ``remaining``.
    """
    states = [(job, remaining(job, overwrite=overwrite)) for job in jobs]
    return [(job, state) for job, state in states if not state.done]


def _is_result(path: Path) -> bool:
    try:
        results.read(path)
    except ResultError:
        return False  # missing or damaged
    return True


def _bridge(
    request: Request, fusion: str, seed: int, rows: Rows | None, protocols: tuple[str, ...]
) -> Job:
    recipe = request.recipe(fusion, seed)
    training = {"recipe": _settings(recipe), "training_rows": rows.trained if rows else UNKNOWN}
    first = Record(training, _evaluation(request, rows) if protocols else None)
    folder = _folder(request, fusion, seed)
    return Job(fusion, seed, folder, recipe, first, protocols, request.experiment.task)


def _baseline(request: Request, method: str, seed: int, rows: Rows | None) -> Job:
    settings = _evaluation(request, rows)
    if method in (TF_IDF, FEW_SHOT):
        # They read English training rows.
        settings["rows"] = request.preset.rows
        settings["training_rows"] = rows.trained if rows else UNKNOWN
    if method != TF_IDF:
        settings["language_model"] = request.language_model
        settings["dtype"] = request.dtype
    if method == FEW_SHOT:
        settings["shots"] = SHOTS
    if method == TRANSLATE:
        settings["translator"] = request.translator
    protocols = (CLASSIFIER,) if method == TF_IDF else ("score",)
    folder = _folder(request, method, seed)
    first = Record({}, settings)
    return Job(method, seed, folder, None, first, protocols, request.experiment.task)


def _folder(request: Request, method: str, seed: int) -> Path:
    old = request.runs / OLD_NAMES.get(method, method) / f"seed-{seed}"
    return old if old.is_dir() else request.runs / method / f"seed-{seed}"


def _evaluation(request: Request, rows: Rows | None) -> Settings:
    return {"test_rows": request.preset.test_rows, "tested": rows.tested if rows else UNKNOWN}


def _settings(recipe: Recipe) -> Settings:
    """Returns what decides the training: not where rows are, nor how many are tested."""
    settings = {name: value for name, value in asdict(recipe).items() if value}
    options = settings.pop("task_options")
    settings["backbones"].pop("allow_pickle", None)
    return {**settings, "train_per_label": options["train_per_label"]}
