"""Jobs: each method with each seed, its folder and settings, and what is left to do."""

from __future__ import annotations

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
from layerbridge.training.run_data import PER_LABEL


@dataclass(frozen=True)
class Job:
    """One method with one seed.

    Attributes:
        method: a baseline or a fusion.
        seed: of training or of the examples; 0 where nothing is random.
        recipe: of a bridge; None for a baseline.
        record: what the folder's record starts with.
        protocols: a result for each; none if only training is needed.
        task: name of the results.
        run_of: the folder of the run that it evaluates in another way; None for its own.
    """

    method: str
    seed: int
    folder: Path
    recipe: Recipe | None
    record: Record
    protocols: tuple[str, ...]
    task: str
    run_of: Path | None = None

    @property
    def label(self) -> str:
        """Name in progress lines."""
        return f"{self.method}, seed {self.seed}"

    @property
    def everything(self) -> Remaining:
        """What is left to do before the job has started."""
        return Remaining(self.recipe is not None and self.run_of is None, self.protocols)

    def path(self, protocol: str) -> Path:
        """Returns the path of a result."""
        return self.folder / "results" / f"{self.task}-{protocol}.json"


class Remaining(NamedTuple):
    """What is left to do of a job.

    ``changed`` was made with other settings and is to be removed.
    """

    train: bool
    protocols: tuple[str, ...]
    changed: Literal["everything", "results", "nothing"] = "nothing"

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return not self.train and not self.protocols


def jobs(request: Request, rows: Rows | None) -> list[Job]:
    """Returns all jobs of an experiment of accuracies or weights: baselines, then bridges by seed.

    ``rows`` is None if they were not read.
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

    Raises:
        OutputError: it was made with other settings and ``overwrite`` is not given, or its folder
            holds something else.
    """
    everything, old, new = job.everything, record.read(job.folder), job.record
    if old is None:
        return everything
    if record.is_changed(job.folder, old.training, new.training, overwrite=overwrite):
        return everything._replace(changed="everything")
    train = everything.train and not old.trained
    if (
        old.evaluation is not None
        and new.evaluation is not None
        and record.is_changed(job.folder, old.evaluation, new.evaluation, overwrite=overwrite)
    ):
        return Remaining(train, job.protocols, "results")
    if train:
        return everything
    return Remaining(False, tuple(name for name in job.protocols if not _is_result(job.path(name))))


def _is_result(path: Path) -> bool:
    try:
        results.read(path)
    except ResultError:
        return False  # missing or damaged
    return True


def _bridge(
    request: Request, fusion: str, seed: int, rows: Rows | None, protocols: tuple[str, ...]
) -> Job:
    recipe = request.recipe(fusion, seed, rows.data if rows else None)
    # What decides the training: not where rows are, nor how many are tested.
    settings = {name: value for name, value in asdict(recipe).items() if value}
    per_label = settings.pop("task_options", {}).get(PER_LABEL)
    if per_label is not None:
        settings[PER_LABEL] = per_label
    settings["backbones"].pop("allow_pickle", None)
    training = {"recipe": settings, "training_rows": rows.trained if rows else UNKNOWN}
    evaluation = _evaluation(request, rows) if protocols else None
    of = request.run_of(fusion)
    center, centering = request.center(fusion)
    if evaluation is not None and center is not None:
        evaluation["center"] = center
    if evaluation is not None and centering is not None:
        evaluation["centering"] = asdict(centering)
    return Job(
        fusion,
        seed,
        _folder(request, fusion, seed),
        recipe,
        Record(training, evaluation),
        protocols,
        Path(request.experiment.task).stem,
        None if of is None else _folder(request, of, seed),
    )


def _baseline(request: Request, method: str, seed: int, rows: Rows | None) -> Job:
    settings = _evaluation(request, rows)
    if method in (TF_IDF, FEW_SHOT):
        # They read English training rows.
        settings["rows"] = request.preset.recipe.max_rows
        settings["training_rows"] = rows.trained if rows else UNKNOWN
    if method != TF_IDF:
        settings["language_model"] = request.language_model
        settings["dtype"] = request.dtype
    if method == FEW_SHOT:
        settings["shots"] = SHOTS
    if method == TRANSLATE:
        settings["translator"] = request.translator
    protocols = (CLASSIFIER,) if method == TF_IDF else ("score",)
    folder, first = _folder(request, method, seed), Record({}, settings)
    task = Path(request.experiment.task).stem
    return Job(method, seed, folder, None, first, protocols, task)


def _folder(request: Request, method: str, seed: int) -> Path:
    old = request.runs / OLD_NAMES.get(method, method) / f"seed-{seed}"
    return old if old.is_dir() else request.runs / method / f"seed-{seed}"


def _evaluation(request: Request, rows: Rows | None) -> Settings:
    return {"test_rows": request.preset.test_rows, "tested": rows.tested if rows else UNKNOWN}
