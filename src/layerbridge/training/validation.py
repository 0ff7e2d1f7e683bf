"""Validation of a bridge in training, by one process or shared by several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from layerbridge.models.bridge import LayerBridge
from layerbridge.models.inference import option_ids
from layerbridge.models.language_model import IGNORED
from layerbridge.tasks.task import Row

# Rows that are classified at a time: those on the disk may not fit in memory.
PART = 10_000


@torch.no_grad()
def mean_loss(bridge: LayerBridge, batches: Iterable[dict[str, Any]]) -> float:
    """Returns the mean over all processes' rows, each with the mean loss of its batch.

    Args:
        bridge: in eval mode.
        batches: of this process; every process has as many.
    """
    total, rows = 0.0, 0
    for batch in batches:
        loss = bridge(**batch).loss
        count = int((batch["labels"] != IGNORED).any(1).sum())
        if count:  # a process that is left without a batch has a row without labels
            total, rows = total + float(loss) * count, rows + count
    parts = gather_object([(total, rows)])
    return sum(part for part, _ in parts) / sum(count for _, count in parts)


def label_metrics(bridge: LayerBridge, rows: Sequence[Row], batch_size: int) -> dict[str, float]:
    """Returns loss, accuracy and median ``any_option`` of rows with labels; processes share them.

    Scores of the options give all three: minus an option's score is the loss of its tokens.

    They are not shared if each process has a part of the language model: all must run it equally
    often, and the scores decide how often that is.

    Args:
        bridge: has options, among them all targets.
        rows: of every process.
        batch_size: rows at a time.
    """
    state = PartialState()
    shared = not bridge.language_model.is_sharded
    scores: list[tuple[float, bool, float]] = []
    tokens: Counter[str] = Counter()
    for start in range(0, len(rows), PART):
        part = rows[start : start + PART]
        tokens.update(row.target for row in part)
        own = part[state.process_index :: state.num_processes] if shared else part
        answers = bridge.classify([row.text for row in own], batch_size=batch_size)
        scores += [
            (answer.scores[row.target], answer.choice == row.target, answer.any_option)
            for answer, row in zip(answers, own, strict=True)
        ]
    score, right, any_option = zip(*(gather_object(scores) if shared else scores), strict=True)
    length = {each: len(option_ids(bridge.language_model, each)) for each in tokens}
    return {
        "loss": -sum(score) / sum(length[each] * count for each, count in tokens.items()),
        "accuracy": sum(right) / len(rows),
        "any_option": median(any_option),
    }
