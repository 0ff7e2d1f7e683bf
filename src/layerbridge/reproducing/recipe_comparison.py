"""Recipes compared: accuracy and cost of each method of a plan, and every effect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from layerbridge.evaluation import results
from layerbridge.evaluation.comparison import Comparison, compare
from layerbridge.evaluation.results import CLASSIFIER, Result
from layerbridge.evaluation.statistics.seeds import Answers, mean_of_seeds
from layerbridge.progress import say
from layerbridge.report.plots.costs import CostPoint, accuracy_against_cost
from layerbridge.report.tables import EffectTable, accuracy_table, effect_table
from layerbridge.report.tables.grid import ABSENT, MARKS, Grid, signed
from layerbridge.reproducing import record
from layerbridge.reproducing.jobs import Job, jobs
from layerbridge.reproducing.recipe_plan import PlanRequest
from layerbridge.reproducing.rows import Rows
from layerbridge.reproducing.runner import TRAINING, run_jobs
from layerbridge.training.atomic_write import atomic_write
from layerbridge.training.output import LOG

HINT = "another --output, or free some disk space"


@dataclass(frozen=True)
class MethodSummary:
    """One method over its seeds.

    Attributes:
        method: its name.
        seeds: of its runs.
        validation_loss: mean over the seeds, in nats per token, of the bridge that is kept, on
            English validation rows; None without any.
        accuracy: mean over the languages other than English, in percent, with its 95 % interval.
        low: lower end.
        high: upper end.
        spread: standard deviation over the seeds of that mean, in points; None for one seed.
        training_seconds: mean over the runs that were not interrupted; None for no training.
        answer_seconds: mean per row, the encoder included.
    """

    method: str
    seeds: tuple[int, ...]
    validation_loss: float | None
    accuracy: float
    low: float
    high: float
    spread: float | None
    training_seconds: float | None
    answer_seconds: float | None


@dataclass(frozen=True)
class RecipeComparison:
    """The outcome of a plan.

    Attributes:
        summaries: one for each method.
        comparisons: by the method that the others are compared with.
        results: of all runs.
        paths: of the files written.
    """

    request: PlanRequest
    summaries: tuple[MethodSummary, ...]
    comparisons: dict[str, list[Comparison]]
    results: tuple[Result, ...]
    paths: tuple[Path, ...] = ()

    @property
    def grid(self) -> Grid:
        """A row for each method: English validation, accuracy, gains and cost."""
        against = list(self.comparisons)
        head = ["method", "seeds", "English validation loss", "average accuracy", "spread"]
        head += [f"over {name}" for name in against]
        head += ["training", "per answer"]
        body = []
        for each in self.summaries:
            gains = [self._gain(each.method, name) for name in against]
            body.append(
                [
                    each.method,
                    str(len(each.seeds)),
                    _number(each.validation_loss, "{:.3f}"),
                    f"{each.accuracy:.1f} ({each.low:.1f}–{each.high:.1f})",
                    _number(each.spread, "{:.1f}"),
                    *gains,
                    _number(each.training_seconds, "{:.0f} s"),
                    _number(each.answer_seconds and 1000 * each.answer_seconds, "{:.0f} ms"),
                ]
            )
        legend = (
            "Averages over the languages other than English, in percent; gains in points with 95 % "
            "intervals over rows and seeds (▲ better, ▼ worse). Choose by English validation loss."
        )
        return Grid(head, body, 1, legend)

    @property
    def document(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "title": self.request.experiment.title,
            "task": self.request.experiment.task,
            "encoder": self.request.encoder,
            "language_model": self.request.language_model,
            "methods": [asdict(each) for each in self.summaries],
            "comparisons": [asdict(each) for of in self.comparisons.values() for each in of],
            "versions": results.versions(),
        }

    def effect_tables(self) -> list[EffectTable]:
        """Every comparison by language."""
        return [effect_table(each) for each in self.comparisons.values()]

    def _gain(self, method: str, against: str) -> str:
        for each in self.comparisons[against]:
            effect = each.average_fixed
            if each.method == method and effect is not None:
                mark = f" {MARKS[effect.mark]}".rstrip()
                ends = f"{signed(effect.low)} to {signed(effect.high)}"
                return f"{signed(effect.effect)} ({ends}){mark}"
        return ABSENT


def compare_recipes(request: PlanRequest) -> RecipeComparison:
    """Does what is left of a plan, and writes ``comparison.md``, ``.json`` and ``.png``.

    Raises:
        LayerBridgeError: invalid settings, data or models; where possible before any training.
    """
    rows = Rows.read(request)
    all_jobs = jobs(request, rows)
    run_jobs(all_jobs, request, rows)
    found = [(job, results.read(job.path(name))) for job in all_jobs for name in job.protocols]
    outcomes = [result for _, result in found]
    summaries = tuple(
        _summary(method, [pair for pair in found if pair[0].method == method])
        for method in request.methods
    )
    comparisons = {
        name: compare(outcomes, name)
        for name in request.plan.compared_with
        if len(request.methods) > 1
    }
    comparison = RecipeComparison(request, summaries, comparisons, tuple(outcomes))
    return _write(comparison)


def _summary(method: str, of: Sequence[tuple[Job, Result]]) -> MethodSummary:
    answers = {
        code: Answers.of([result.right(code) for _, result in of])
        for code in of[0][1].languages
        if code != "en"
    }
    accuracy, low, high = mean_of_seeds(answers)
    by_seed = [fmean(values) for values in zip(*(a.by_seed for a in answers.values()), strict=True)]
    records = [record.read(job.folder) for job, _ in of]
    seconds = [each.seconds if each else {} for each in records]
    training = [each[TRAINING] for each in seconds if TRAINING in each]
    per_row = [
        each[result.protocol] / sum(entry.n for entry in result.languages.values())
        for each, (_, result) in zip(seconds, of, strict=True)
        if result.protocol in each and result.protocol != CLASSIFIER
    ]
    losses = [_validation_loss(job) for job, _ in of if job.recipe is not None]
    known = [loss for loss in losses if loss is not None]
    return MethodSummary(
        method=method,
        seeds=tuple(job.seed for job, _ in of),
        validation_loss=fmean(known) if known and len(known) == len(losses) else None,
        accuracy=100 * accuracy,
        low=100 * low,
        high=100 * high,
        spread=100 * stdev(by_seed) if len(by_seed) > 1 else None,
        training_seconds=fmean(training) if training else None,
        answer_seconds=fmean(per_row) if per_row else None,
    )


def _validation_loss(job: Job) -> float | None:
    """Returns the validation loss of the bridge that a run has kept."""
    log = json.loads(((job.run_of or job.folder) / LOG).read_text(encoding="utf-8"))
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    if not losses:
        return None
    assert job.recipe is not None
    return min(losses) if job.recipe.training.get("load_best_model_at_end") else losses[-1]


def _write(comparison: RecipeComparison) -> RecipeComparison:
    folder, request = comparison.request.folder, comparison.request
    parts = [
        f"# {request.experiment.title}\n",
        f"`{request.encoder}` and `{request.language_model}`, task `{request.experiment.name}`.\n",
        comparison.grid.markdown(),
        accuracy_table(list(comparison.results)).markdown(intervals=True),
    ]
    for against, table in zip(comparison.comparisons, comparison.effect_tables(), strict=True):
        parts += [f"## Against {against}\n", table.markdown()]
    document = json.dumps(comparison.document, ensure_ascii=False, indent=1) + "\n"
    points = [
        CostPoint(each.method, each.training_seconds, each.accuracy, each.low, each.high)
        for each in comparison.summaries
        if each.training_seconds is not None
    ]
    paths = [
        atomic_write("\n".join(parts), folder / "comparison.md", hint=HINT),
        atomic_write(document, folder / "comparison.json", hint=HINT),
    ]
    if points:
        label = f"average accuracy, % ({request.experiment.name})"
        paths.append(accuracy_against_cost(points, folder / "comparison.png", accuracy=label))
    else:
        say("no picture: no training was timed from its start to its end")
    return RecipeComparison(
        request, comparison.summaries, comparison.comparisons, comparison.results, tuple(paths)
    )


def _number(value: float | None, form: str) -> str:
    return ABSENT if value is None else form.format(value)
