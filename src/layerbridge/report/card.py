"""The results of a run on its model card, and in the files that the hub reads them from."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from layerbridge import tasks
from layerbridge.errors import LayerBridgeError
from layerbridge.evaluation.results import Result, read
from layerbridge.models.checkpoint import CARD, EVAL_RESULTS
from layerbridge.models.model_card import card_with_results
from layerbridge.tasks.hub import dataset_of
from layerbridge.tasks.sourced import SourcedTask
from layerbridge.training.atomic_write import atomic_write

# The pretty name of what is measured; values are between 0 and 1, as the hub has them.
METRIC = "accuracy"


def update_card(run: Path) -> None:
    """Writes the results in a run's folder to its card and to ``.eval_results``.

    The card's metadata (``model-index``) has those of all tasks. ``.eval_results/*.yaml``, from
    which the hub fills the leaderboards of benchmarks, has those on data sets of the hub.
    A card without the hub's metadata is left as it is.

    Args:
        run: with result files in ``results/``.

    Raises:
        OutputError: the folder cannot be written.
    """
    found = {file.stem: read(file) for file in sorted((run / "results").glob("*.json"))}
    results = {name: result for name, result in found.items() if "bridge" in result.settings}
    card = run / CARD
    if not results or not card.is_file():
        return
    entries = [entry for result in results.values() for entry in _entries(result)]
    table = "\n".join(map(_table, results.values()))
    text = card.read_text(encoding="utf-8")
    atomic_write(card_with_results(text, entries, table, run.resolve().name), card)
    for name, result in results.items():
        listed = _benchmark_entries(result)
        if listed:
            file = run / EVAL_RESULTS / f"{name}.yaml"
            content = eval_result_entries_to_yaml(listed)
            atomic_write(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), file)


def _entries(result: Result) -> list[EvalResult]:
    datasets = _datasets(result)
    entries = []
    for code, one in result.languages.items():
        dataset, config = datasets.get(code) or (result.task, code)
        entries.append(
            EvalResult(
                task_type="text-classification",
                task_name=result.protocol,
                dataset_type=dataset,
                dataset_name=f"{result.task} ({code})",
                dataset_config=config,
                dataset_split=result.split,
                metric_type=METRIC,
                metric_value=round(one.accuracy, 4),
            )
        )
    return entries


def _benchmark_entries(result: Result) -> list[EvalResultEntry]:
    # A leaderboard is about all rows, and those of the hub.
    if result.settings.get("task_options", {}).keys() & {"data_dir", "max_test"}:
        return []
    datasets = _datasets(result)
    return [
        EvalResultEntry(
            dataset_id=dataset[0],
            task_id=dataset[1] or "default",
            value=round(one.accuracy, 4),
            date=result.created,
            notes=f"{METRIC}, {result.protocol}; trained on English only",
        )
        for code, one in result.languages.items()
        if (dataset := datasets.get(code)) is not None
    ]


def _datasets(result: Result) -> dict[str, tuple[str, str | None]]:
    """Returns by language the data set of the test rows, where the hub has it."""
    # A task of one's own is not found by its name, and needs no data set.
    with suppress(LayerBridgeError, ImportError):
        task = tasks.get(result.task)
        if isinstance(task, SourcedTask):
            sources = {code: dataset_of(task.source("test", code)) for code in result.languages}
            return {code: dataset for code, dataset in sources.items() if dataset is not None}
    return {}


def _table(result: Result) -> str:
    lines = [
        f"| {code} | {one.accuracy:.1%} | {one.interval[0]:.1%}–{one.interval[1]:.1%} | {one.n} |"
        for code, one in result.languages.items()
    ]
    head = f"### {result.task}, {result.split} split, protocol `{result.protocol}`\n\n"
    columns = "| language | accuracy | 95 % interval | rows |\n|---|---|---|---|\n"
    return head + columns + "\n".join(lines) + "\n"
