"""Validation of a bridge in training, by one process or shared by several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from layerbridge.models.bridge import LayerBridge
from layerbridge.models.language_model import IGNORED
from layerbridge.tasks.task import Row


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


def label_metrics(
    bridge: LayerBridge, rows: Sequence[Row], lengths: Sequence[int], batch_size: int
) -> dict[str, float]:
    """Returns loss, accuracy and median ``any_option`` of rows with labels; processes share them.

    Scores of the options give all three: minus an option's score is the loss of its tokens.

    They are not shared if each process has a part of the language model: all must run it equally
    often, and the scores decide how often that is.

    Args:
        bridge: has options, among them all targets.
        rows: of every process.
        lengths: tokens of each row's target.
        batch_size: rows at a time.
    """
    state = PartialState()
    shared = not bridge.language_model.is_sharded
    own = rows[state.process_index :: state.num_processes] if shared else rows
    answers = bridge.classify([row.text for row in own], batch_size=batch_size)
    parts = [
        (answer.scores[row.target], answer.choice == row.target, answer.any_option)
        for answer, row in zip(answers, own, strict=True)
    ]
    scores, right, any_option = zip(*(gather_object(parts) if shared else parts), strict=True)
    return {
        "loss": -sum(scores) / sum(lengths),
        "accuracy": sum(right) / len(rows),
        "any_option": median(any_option),
    }
