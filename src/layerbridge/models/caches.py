"""Caches of a language model: rows taken from one, and a stand-in where a model's own is unsound.

Legend: B batch, n rows, T LM tokens, D LM width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

# Cache layers that grow by allocating a new tensor and never write into the old one.
GROWING = (DynamicLayer, DynamicSlidingWindowLayer)


class Reread:
    """In the place of a cache: the tokens themselves, to be read again with those that follow.

    Args:
        embeds: input embeddings of all tokens so far, pads included.
    """

    def __init__(self, embeds: Float[Tensor, "B T D"]) -> None:
        self.embeds = embeds

    def get_seq_length(self) -> int:
        """Returns T."""
        return self.embeds.shape[1]

    def reorder_cache(self, rows: Int[Tensor, " n"]) -> None:
        """Keeps these rows, in this order."""
        self.embeds = self.embeds[rows]

    batch_select_indices = reorder_cache


def branch(cache: Any, rows: Int[Tensor, " n"], batch: int) -> Any:
    """Returns a cache of some rows of a cache of ``batch`` rows, which is not modified."""
    layers = getattr(cache, "layers", None)
    if layers and all(type(layer) in GROWING for layer in layers):
        # These replace their tensors, so sharing the old ones is safe.
        branched = copy.copy(cache)
        branched.layers = [copy.copy(layer) for layer in layers]
    else:
        branched = copy.deepcopy(cache)
    if len(rows) != batch or not torch.equal(rows, torch.arange(batch, device=rows.device)):
        branched.reorder_cache(rows)
    return branched


def without_pads(
    compute: Callable[[Tensor, Tensor], Tensor],
    embeds: Float[Tensor, "B T D"],
    mask: Int[Tensor, "B T"],
) -> Float[Tensor, "B T _"]:
    """Runs rows of one length together and without their pads; pads get zeros.

    Args:
        compute: of embeddings and mask [b, t, …], one output for each token.
        embeds: padded on the left.
        mask: 1 for real tokens.
    """
    pads = (mask == 0).sum(1)
    parts, order = [], []
    for count in pads.unique().tolist():
        rows = (pads == count).nonzero().flatten()
        part = compute(embeds[rows, count:], mask[rows, count:])
        parts.append(F.pad(part, (0, 0, count, 0)))
        order.append(rows)
    return torch.cat(parts)[torch.cat(order).argsort()]
