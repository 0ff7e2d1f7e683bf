"""``bench evaluate``: rows per second of option scoring, against greedy generation.

Only a trained bridge generates options; without RUN a small one is trained first, on the
demo's names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from layerbridge import tasks
from layerbridge.benchmarking import sample
from layerbridge.benchmarking.measure import Progress, interleave, ratio, to_dicts
from layerbridge.benchmarking.pair import Pair
from layerbridge.benchmarking.reference import ReferenceBridge
from layerbridge.benchmarking.shapes import is_shape
from layerbridge.models.backbone import dtype_name
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.inference import option_ids
from layerbridge.models.length_grouping import by_length
from layerbridge.models.option_scoring import best_options
from layerbridge.models.state_cache import StateCache
from layerbridge.tasks import Row, Task
from layerbridge.training.run import training_arguments
from layerbridge.training.trainer import BridgeTrainer

# As in the demo.
TRAINING = {
    "per_device_train_batch_size": 16,
    "learning_rate": 1e-3,
    "fusion_learning_rate_scale": 0.1,
    "adam_beta1": 0.9,
    "clip_by_part": True,
    "save_strategy": "no",
}

# Each with one optimization more than the one before.
WAYS = {
    "reference": "greedy generation, the reference's model, in the order of the file",
    "generate": "greedy generation, layerbridge's model, in the order of the file",
    "generate, grouped": "the same, in batches of similar length",
    "score": "every option scored in full, in batches of similar length",
    "score, pruned": "only options scored that can still win: what `evaluate` does",
}


@dataclass(frozen=True)
class EvaluateCase:
    """What is evaluated.

    Args:
        pair: the backbones.
        run: a trained bridge's folder; None trains one.
        task: a built-in task.
        batch: rows at a time.
        per_kind: test rows of each kind in each language, of the task ``names``.
        training_steps: of the bridge that is trained here.
        rows: number of synthetic rows of real lengths and three options, instead of the task's.
    """

    pair: Pair = field(default_factory=Pair)
    run: str | None = None
    task: str = "names"
    batch: int = 32
    per_kind: int = 2
    training_steps: int = 40
    rows: int | None = None


def run(case: EvaluateCase, repeat: int = 3, progress: Progress | None = None) -> dict[str, Any]:
    """Measures the rows per second of every way, and how often their answers agree.

    Returns:
        ``speedup`` (scoring over the reference's generation, same dtype); ``valid`` (share of rows
        where the reference generates an option); of those rows, the shares with the same answer of
        scoring (``agreement``) and of layerbridge's own generation (``agreement_generated``, which
        differs by rounding alone); rows per second.
    """
    options, rows, bridge = _load(case)
    ways = _ways(bridge, options, case.batch)
    answers: dict[str, list[str]] = {}

    def call(name: str) -> None:
        answer, grouped = ways[name]
        lengths = [len(row.text) if grouped else 0 for row in rows]
        by_index: dict[int, str] = {}
        for batch in by_length(lengths, case.batch):
            texts = [rows[index].text for index in batch]
            by_index.update(zip(batch, answer(texts), strict=True))
        answers[name] = [by_index[index] for index in range(len(rows))]

    timings = interleave(
        {name: partial(call, name) for name in ways},
        repeat,
        device=case.pair.torch_device(),
        progress=progress,
    )
    generated = answers["reference"]
    valid = [index for index, answer in enumerate(generated) if answer in options]

    def agreement(name: str) -> float | None:
        same = [answers[name][index] == generated[index] for index in valid]
        return sum(same) / len(same) if same else None

    return {
        "speedup": ratio(timings["reference"], timings["score, pruned"]),
        "agreement": agreement("score, pruned"),
        "agreement_generated": agreement("generate"),
        "valid": len(valid) / len(rows),
        "rows_per_second": {name: len(rows) / timing.median for name, timing in timings.items()},
        "round_s": to_dicts(timings),
        "ways": WAYS,
        "rows": len(rows),
        "options": len(options),
        "dtype": dtype_name(bridge.language_model.dtype),
    }


def _ways(
    bridge: LayerBridge, options: Sequence[str], size: int
) -> dict[str, tuple[Callable[[list[str]], list[str]], bool]]:
    """Returns way → the answers to a batch of texts, and whether rows are grouped by length."""
    language_model = bridge.language_model
    reference = ReferenceBridge(bridge).to(language_model.dtype).eval()
    ids = [option_ids(language_model, option) for option in options]
    # Enough for any option.
    longest = max(map(len, ids)) + 2

    def generate(texts: list[str]) -> list[str]:
        return bridge.generate_text(texts, max_new_tokens=longest, batch_size=size)

    def score(texts: list[str]) -> list[str]:
        scores = bridge.option_scores(bridge.encode(texts), ids)
        return [options[index] for index in scores.argmax(1).tolist()]

    @torch.no_grad()
    def prune(texts: list[str]) -> list[str]:
        best = best_options(language_model, bridge.prefix(bridge.encode(texts)), ids)
        return [options[index] for index in best.tolist()]

    return {
        "reference": (lambda texts: reference.answers(texts, longest), False),
        "generate": (generate, False),
        "generate, grouped": (generate, True),
        "score": (score, True),
        "score, pruned": (prune, True),
    }


def _load(case: EvaluateCase) -> tuple[list[str], list[Row], LayerBridge]:
    """Returns options, rows and a bridge."""
    bridge = None
    if case.run is not None:
        device = case.pair.torch_device()
        bridge = LayerBridge.from_pretrained(case.run, dtype=case.pair.dtype, device=device)
    if case.rows is not None:
        bridge = bridge or case.pair.bridge("token-softmax")
        return list(sample.LABELS), sample.rows(bridge.encoder, case.rows), bridge.eval()
    task = tasks.get(
        case.task, **({"test_per_kind": case.per_kind} if case.task == "names" else {})
    )
    rows = [row for language in task.languages for row in task.test(language)]
    return list(task.options), rows, (bridge or _train(case, task)).eval()


def _train(case: EvaluateCase, task: Task) -> LayerBridge:
    """Returns a bridge that was trained briefly."""
    bridge = case.pair.bridge(
        "token-softmax",
        start="last",
        # The made-up words of a shape cannot be aligned.
        projection_start="scaled" if is_shape(case.pair.encoder) else "aligned",
        instruction=" (category:",
        options=list(task.options),
        texts=[row.text for row in task.train()],
    )
    bridge.encoder.cache = StateCache()
    with TemporaryDirectory() as folder:
        arguments = training_arguments({**TRAINING, "max_steps": case.training_steps}, Path(folder))
        BridgeTrainer(bridge, arguments, task.train()).train()
    bridge.encoder.cache = None
    return bridge
