"""Rows → batches: texts for the encoder's tokenizer, targets for the language model's.

Legend: B batch, S encoder tokens, T target tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from layerbridge.models.bridge import LayerBridge
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.inference import option_ids
from layerbridge.models.language_model import IGNORED
from layerbridge.models.prompt_room import check_rows, prompt_lengths
from layerbridge.progress import meter
from layerbridge.tasks.stored_rows import StoredRows, Texts, sample
from layerbridge.tasks.task import Row
from layerbridge.training.batching import BLANK

# Characters of rows on the disk whose tokens are all counted, which takes a minute.
MOST_CHARACTERS = 2**26
# Rows whose tokens are counted of more, and rows that are counted at a time.
SAMPLED, PART = 10_000, 1000
# Different targets on the disk whose tokens are kept; others are tokenized when they are used.
MOST_TARGETS = 10_000


class RowDataset(Dataset):
    """Rows as the collator takes them, with their lengths in tokens.

    The item ``BLANK`` is the shortest row without its target: it adds nothing to the loss.

    Args:
        rows: training or validation rows.
        bridge: has the tokenizers.
        exact: count the tokens of all rows, however many.

    Attributes:
        lengths: of the rows, text and target; of more than ``MOST_CHARACTERS`` characters these,
            unless they have to be exact: that is enough to group rows by length.
        counted: the rows whose tokens were counted: all, or a sample.
        cut: number of texts among these that are longer than ``max_text_tokens``.

    Raises:
        LengthError: rows do not fit the language model's positions.
    """

    def __init__(self, rows: Sequence[Row], bridge: LayerBridge, *, exact: bool = False) -> None:
        self.language_model = bridge.language_model
        self.rows = rows if isinstance(rows, StoredRows) else list(rows)
        self.counted: Sequence[Row] = self.rows
        # A classification task has few distinct targets: each is tokenized once.
        self.targets: dict[str, list[int]] = {}
        self.lengths: list[int] | np.ndarray
        self.cut = 0
        if not isinstance(self.rows, StoredRows):
            self.lengths = self._count(self.rows, bridge)
            return
        self.lengths = self.rows.characters
        if not exact and self.lengths.sum(dtype=np.int64) > MOST_CHARACTERS:
            self.counted = sample(self.rows, SAMPLED)
            self._count(self.counted, bridge)
            return
        self.lengths = np.empty(len(rows), np.int32)
        with meter("counting tokens") as bar:
            for start in range(0, len(rows), PART):
                part = slice(start, start + PART)
                self.lengths[part] = self._count(rows[part], bridge)
                bar.update(min(start + PART, len(rows)), len(rows))

    def _count(self, rows: Sequence[Row], bridge: LayerBridge) -> list[int]:
        """Returns the lengths of rows, and checks them."""
        targets = [len(self._target(row.target)) for row in rows]
        limit = bridge.encoder.max_text_tokens
        lengths = bridge.encoder.lengths(Texts(rows)[:])
        self.cut += sum(length > limit for length in lengths)
        read = [min(length, limit) for length in lengths]
        soft = prompt_lengths(bridge.config, read)
        check_rows(bridge.config, bridge.language_model, _with(soft, targets))
        return _with(read, targets)

    def _target(self, target: str) -> list[int]:
        """Returns the token ids of a target, EOS included."""
        ids = self.targets.get(target)
        if ids is None:
            ids = option_ids(self.language_model, target)
            if len(self.targets) < MOST_TARGETS or not isinstance(self.rows, StoredRows):
                self.targets[target] = ids
        return ids

    def __getstate__(self) -> dict[str, Any]:
        """For loader workers, which need no more of the language model than targets."""
        return {**self.__dict__, "language_model": None}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == BLANK:
            shortest = self.rows[int(np.argmin(self.lengths))]
            return {"text": shortest.text, "target": [IGNORED]}
        row = self.rows[index]
        return {"text": row.text, "target": self._target(row.target)}


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


def _with(lengths: Sequence[int], targets: Sequence[int]) -> list[int]:
    return [length + target for length, target in zip(lengths, targets, strict=True)]


def pad_labels(targets: Sequence[Sequence[int]]) -> Tensor:
    """Returns the targets [B, T], padded on the right with ``IGNORED``."""
    tensors = [torch.tensor(target) for target in targets]
    return pad_sequence(tensors, batch_first=True, padding_value=IGNORED)
