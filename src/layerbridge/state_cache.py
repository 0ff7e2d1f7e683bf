"""StateCache: the layer states of texts that were read before.

The encoder is frozen, so a text need be read once only, however many epochs, bridges or settings
follow. It holds what it is given; who fills it decides what is worth the memory.
Legend: L layers, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.layer_states import LayerStates


class StateCache:
    """Layer states by text, without padding."""

    def __init__(self) -> None:
        self._rows: dict[str, Tensor] = {}

    def __contains__(self, text: str) -> bool:
        return text in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def bytes(self) -> int:
        """What it holds, in bytes."""
        return sum(row.nbytes for row in self._rows.values())

    def put(self, text: str, states: Float[Tensor, "L S E"]) -> None:
        """Keeps the states of one text, its real tokens only."""
        self._rows[text] = states

    def batch(self, texts: Sequence[str]) -> LayerStates:
        """The states of texts that are all here, padded on the right with zeros."""
        rows = [self._rows[text] for text in texts]
        layers, _, width = rows[0].shape
        longest = max(row.shape[1] for row in rows)
        states = rows[0].new_zeros(layers, len(rows), longest, width)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool, device=states.device)
        for index, row in enumerate(rows):
            states[:, index, : row.shape[1]] = row
            mask[index, : row.shape[1]] = True
        return LayerStates(states, mask)
