"""Rows → batches: texts for the encoder's tokenizer, targets for the language model's.

Legend: B batch, S encoder tokens, T target tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from layerbridge.models.bridge import LayerBridge
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.inference import option_ids
from layerbridge.models.language_model import IGNORED
from layerbridge.models.prompt_room import check_rows, prompt_lengths
from layerbridge.tasks.task import Row
from layerbridge.training.batching import BLANK


class RowDataset(Dataset):
    """Rows as the collator takes them, with their lengths in tokens.

    The item ``BLANK`` is the shortest row without its target: it adds nothing to the loss.

    Args:
        rows: training or validation rows.
        bridge: has the tokenizers.

    Attributes:
        targets: token ids of each row's target, EOS included.
        lengths: of the rows, text and target.
        cut: number of texts that are longer than ``max_text_tokens``.

    Raises:
        LengthError: rows do not fit the language model's positions.
    """

    def __init__(self, rows: Sequence[Row], bridge: LayerBridge) -> None:
        self.rows = list(rows)
        # A classification task has few distinct targets: each is tokenized once.
        targets = {target: option_ids(bridge.language_model, target) for target in
                   dict.fromkeys(row.target for row in self.rows)}  # fmt: skip
        self.targets = [targets[row.target] for row in self.rows]
        limit = bridge.encoder.max_text_tokens
        lengths = bridge.encoder.lengths([row.text for row in self.rows])
        self.cut = sum(length > limit for length in lengths)
        read = [min(length, limit) for length in lengths]
        self.lengths = _with(read, self.targets)
        soft = prompt_lengths(bridge.config, read)
        check_rows(bridge.config, bridge.language_model, _with(soft, self.targets))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == BLANK:
            shortest = self.lengths.index(min(self.lengths))
            return {"text": self.rows[shortest].text, "target": [IGNORED]}
        return {"text": self.rows[index].text, "target": self.targets[index]}


class Collator:
    """Collates items into a batch for ``LayerBridge.forward``.

    With a state cache the texts come as ``hidden_states``, else as ``input_ids``, which loader
    workers can compute.
    """

    def __init__(self, bridge: LayerBridge) -> None:
        self.encoder = bridge.encoder

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor | HiddenStates]:
        """Returns ``input_ids`` [B, S] or ``hidden_states``, ``attention_mask`` and ``labels``."""
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


def _with(lengths: Sequence[int], targets: Sequence[Sequence[int]]) -> list[int]:
    return [length + len(target) for length, target in zip(lengths, targets, strict=True)]


def pad_labels(targets: Sequence[Sequence[int]]) -> Tensor:
    """Returns the targets [B, T], padded on the right with ``IGNORED``."""
    tensors = [torch.tensor(target) for target in targets]
    return pad_sequence(tensors, batch_first=True, padding_value=IGNORED)
