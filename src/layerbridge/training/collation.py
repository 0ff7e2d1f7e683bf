"""Rows → batches for two tokenizers: the encoder's for texts, the language model's for targets.

It knows rows' texts and targets, not tasks. Legend: B batch, S encoder tokens, T target tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from layerbridge.models.bridge import LayerBridge
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.inference import option_ids
from layerbridge.models.language_model import IGNORED
from layerbridge.tasks.task import Row


class RowDataset(Dataset):
    """Rows as the collator takes them, with the lengths that batches are grouped by.

    Args:
        rows: training or validation rows.
        bridge: whose tokenizers count.
    """

    def __init__(self, rows: Sequence[Row], bridge: LayerBridge) -> None:
        self.rows = list(rows)
        # The few distinct targets of a classification task are tokenised once each.
        targets = {target: option_ids(bridge.language_model, target) for target in
                   dict.fromkeys(row.target for row in self.rows)}  # fmt: skip
        self.targets = [targets[row.target] for row in self.rows]
        texts = [row.text for row in self.rows]
        encoder = bridge.encoder
        tokenized = encoder.tokenizer(
            texts, truncation=True, max_length=encoder.max_text_tokens
        )["input_ids"] if texts else []  # fmt: skip
        self.lengths = [
            len(text) + len(target) for text, target in zip(tokenized, self.targets, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"text": self.rows[index].text, "target": self.targets[index]}


class Collator:
    """A batch for ``LayerBridge.forward``.

    Texts whose states the encoder's cache may hold come as ``hidden_states``; without a cache
    they come as ``input_ids``, and this runs in loader workers.
    """

    def __init__(self, bridge: LayerBridge) -> None:
        self.encoder = bridge.encoder

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor | HiddenStates]:
        """``input_ids`` or ``hidden_states``, ``attention_mask`` and ``labels``."""
        texts = [item["text"] for item in items]
        labels = pad_labels([item["target"] for item in items])
        if self.encoder.cache is None:
            return {**self.encoder.tokenize(texts), "labels": labels}
        states = self.encoder.encode(texts)
        return {
            "hidden_states": states,
            "attention_mask": states.mask.long(),
            "labels": labels,
        }


def pad_labels(targets: Sequence[Sequence[int]]) -> Tensor:
    """Targets [B, T], padded on the right with IGNORED."""
    width = max(map(len, targets))
    return torch.tensor([[*target, *[IGNORED] * (width - len(target))] for target in targets])
