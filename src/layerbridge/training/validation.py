"""Validation of a bridge in training, by one process or shared by several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object
from torch import Tensor

from layerbridge.models.bridge import LayerBridge
from layerbridge.models.language_model import IGNORED
from layerbridge.tasks.task import Row


class Part(NamedTuple):
    """What one process has found out.

    Attributes:
        loss: sum over its rows, each with the mean loss of its batch.
        rows: of its batches.
        right: rows that are classified right.
    """

    loss: float
    rows: int
    right: int


@torch.no_grad()
def losses(bridge: LayerBridge, batches: Iterable[dict[str, Any]]) -> tuple[float, int]:
    """Returns the summed loss of rows, each with the mean loss of its batch, and their number."""
    total, rows = 0.0, 0
    for batch in batches:
        loss = bridge(**batch).loss
        labels: Tensor = batch["labels"]
        count = int((labels != IGNORED).any(1).sum())
        if count:  # a process that is left without a batch has a row without labels
            total, rows = total + float(loss) * count, rows + count
    return total, rows


def right_answers(bridge: LayerBridge, rows: Sequence[Row], batch_size: int) -> int:
    """Returns how many rows are classified right."""
    answers = bridge.classify([row.text for row in rows], batch_size=batch_size)
    return sum(a.choice == row.target for a, row in zip(answers, rows, strict=True))


def joined(part: Part) -> Part:
    """Returns the sums over the parts of all processes."""
    parts = gather_object([part])
    return Part(
        sum(each.loss for each in parts),
        sum(each.rows for each in parts),
        sum(each.right for each in parts),
    )
