"""``bench evaluate``: rows a second of option scoring, against greedy generation and exact match.

On a trained bridge, since only a trained one generates options; without one at hand a small one is
trained first, on the demo's names.
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
from layerbridge.benchmarking.measure import interleave, ratio
from layerbridge.benchmarking.pair import SHAPE, Pair
from layerbridge.benchmarking.reference import ReferenceBridge
from layerbridge.models.backbone import dtype_name
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.inference import option_ids
from layerbridge.models.length_grouping import by_length
from layerbridge.models.option_scoring import best_options
from layerbridge.models.state_cache import StateCache
from layerbridge.tasks import Row, Task
from layerbridge.training.run import training_arguments
from layerbridge.training.trainer import BridgeTrainer

# Of the bridge that is trained here: the demo's settings.
TRAINING = {
    "per_device_train_batch_size": 16,
    "learning_rate": 1e-3,
    "fusion_learning_rate_scale": 0.1,
    "adam_beta1": 0.9,
    "clip_by_part": True,
    "save_strategy": "no",
}

# The ways of answering, each with one lever more than the one before.
WAYS = {
    "reference": "greedy generation, the rival's model, in the order of the file",
    "generate": "greedy generation, layerbridge's model, in the order of the file",
    "generate, grouped": "the same, in batches of one length",
    "score": "every option scored in full, in batches of one length",
    "score, pruned": "only options scored that can still win: what `evaluate` does",
}


@dataclass(frozen=True)
class EvaluateCase:
    """What is asked of which bridge.

    Args:
        pair: the backbones.
        run: a trained bridge's folder; None trains one.
        task: a built-in task.
        batch: rows at a time.
        per_kind: test rows of each kind in each language, of the task ``names``.
        training_steps: of the bridge that is trained here.
        rows: so many synthetic rows of real lengths and three options, instead of the task's.
    """

    pair: Pair = field(default_factory=Pair)
    run: str | None = None
    task: str = "names"
    batch: int = 32
    per_kind: int = 2
    training_steps: int = 40
    rows: int | None = None


def run(
    case: EvaluateCase,
    repeat: int = 3,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Rows a second of every way, and how often scoring and generation agree.

    Returns:
        ``speedup`` (scoring over the reference's generation, same dtype), ``agreement`` (share of
        rows, of those where generation gives an option, with the same answer),
        ``agreement_generated`` (the same of layerbridge's own greedy generation: what rounding
        leaves of it), ``valid`` (share of rows where it gives one), rows a second by way.
    """
    options, rows, bridge = _asked(case)
    found: dict[str, list[str]] = {}
    ways = {
        name: partial(_keep, found, name, way)
        for name, way in _ways(bridge, rows, options, case.batch).items()
    }
    timings = interleave(ways, repeat, device=case.pair.place(), progress=progress)
    scored, generated = found["score, pruned"], found["reference"]
    valid = [i for i, answer in enumerate(generated) if answer in options]

    def same(answers: list[str]) -> float | None:
        alike = [answers[i] == generated[i] for i in valid]
        return sum(alike) / len(alike) if alike else None

    return {
        "speedup": ratio(timings["reference"], timings["score, pruned"]),
        "agreement": same(scored),
        "agreement_generated": same(found["generate"]),
        "valid": len(valid) / len(rows),
        "rows_per_second": {name: len(rows) / timing.median for name, timing in timings.items()},
        "round_s": {name: timing.to_dict() for name, timing in timings.items()},
        "ways": WAYS,
        "rows": len(rows),
        "options": len(options),
        "dtype": dtype_name(bridge.language_model.dtype),
    }


def _keep(found: dict[str, list[str]], name: str, way: Callable[[], list[str]]) -> None:
    found[name] = way()


def _ways(
    bridge: LayerBridge, rows: Sequence[Row], options: Sequence[str], size: int
) -> dict[str, Callable[[], list[str]]]:
    language_model = bridge.language_model
    rival = ReferenceBridge(bridge).to(language_model.dtype).eval()
    ids = [option_ids(language_model, option) for option in options]
    # Enough for any option; what goes on is no option any more.
    longest = max(map(len, ids)) + 2
    in_order = [list(range(at, min(at + size, len(rows)))) for at in range(0, len(rows), size)]
    grouped = by_length([len(row.text) for row in rows], size)

    def ask(places: list[list[int]], answer: Callable[[list[str]], list[str]]) -> list[str]:
        answers: dict[int, str] = {}
        for batch in places:
            given = answer([rows[place].text for place in batch])
            answers.update(zip(batch, given, strict=True))
        return [answers[place] for place in range(len(rows))]

    def generate(texts: list[str]) -> list[str]:
        return bridge.generate_text(texts, max_new_tokens=longest, batch_size=size)

    def score(texts: list[str]) -> list[str]:
        scores = bridge.option_scores(bridge.encode(texts), ids)
        return [options[place] for place in scores.argmax(1).tolist()]

    def pruned(texts: list[str]) -> list[str]:
        with torch.no_grad():
            best = best_options(language_model, bridge.prefix(bridge.encode(texts)), ids)
        return [options[place] for place in best.tolist()]

    return {
        "reference": lambda: ask(in_order, lambda texts: rival.answers(texts, longest)),
        "generate": lambda: ask(in_order, generate),
        "generate, grouped": lambda: ask(grouped, generate),
        "score": lambda: ask(grouped, score),
        "score, pruned": lambda: ask(grouped, pruned),
    }


def _asked(case: EvaluateCase) -> tuple[list[str], list[Row], LayerBridge]:
    """Options, rows and a bridge to ask."""
    if case.rows is not None:
        bridge = _run_of(case) if case.run else case.pair.bridge("token-softmax")
        return list(sample.LABELS), sample.rows(bridge.encoder, case.rows), bridge.eval()
    options = {"test_per_kind": case.per_kind} if case.task == "names" else {}
    task = tasks.get(case.task, **options)
    rows = [row for language in task.languages for row in task.test(language)]
    bridge = _run_of(case) if case.run else _trained(case, task)
    return list(task.options), rows, bridge.eval()


def _run_of(case: EvaluateCase) -> LayerBridge:
    assert case.run is not None
    device = case.pair.place()
    return LayerBridge.from_pretrained(case.run, dtype=case.pair.dtype, device=device)


def _trained(case: EvaluateCase, task: Task) -> LayerBridge:
    """A bridge that was trained for a moment."""
    bridge = case.pair.bridge(
        "token-softmax",
        start="last",
        # A shape's words are no English ones: there is nothing to align.
        projection_start="scaled" if case.pair.encoder.startswith(SHAPE) else "aligned",
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
