"""Packing: segments of LM input side by side, the padding of every row on its left.

Legend: B batch, n tokens of a segment, T LM tokens, D LM width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Segment:
    """A stretch of LM input: ``embeds`` [B, n, D] and ``mask`` [B, n], true for real tokens."""

    embeds: Float[Tensor, "B n D"]
    mask: Bool[Tensor, "B n"]


@dataclass(frozen=True)
class PackedInputs:
    """Left-padded LM input."""

    inputs_embeds: Float[Tensor, "B T D"]
    attention_mask: Int[Tensor, "B T"]

    @property
    def position_ids(self) -> Int[Tensor, "B T"]:
        """Positions of the real tokens, so that padding never moves a token."""
        return positions(self.attention_mask)


def pack(segments: Sequence[Segment]) -> PackedInputs:
    """Concatenates segments and moves every row's padding to its left end.

    All rows end together: whatever follows a row comes right after its last real token, and the
    label positions line up at the right edge.
    """
    embeds = torch.cat([segment.embeds for segment in segments], dim=1)
    mask = torch.cat([segment.mask.bool() for segment in segments], dim=1)
    width = int(mask.sum(1).max())
    # False sorts before True, and a stable sort keeps the order of the real tokens.
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)[:, mask.shape[1] - width :]
    mask = mask.gather(1, order)
    embeds = embeds.gather(1, order[..., None].expand(-1, -1, embeds.shape[-1]))
    return PackedInputs(embeds.masked_fill(~mask[..., None], 0.0), mask.long())


def positions(mask: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """The position of each token among the real tokens of its row."""
    return (mask.cumsum(1) - 1).clamp_min(0)
