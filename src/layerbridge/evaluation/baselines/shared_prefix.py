"""A prefix that all prompts share: run once, and its cache reused for every batch.

The numbers are those of the whole prompts, which are run where the cache cannot be reused exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from layerbridge.evaluation.baselines.prompt import padded
from layerbridge.models.caches import GROWING
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.option_scoring import option_scores
from layerbridge.models.packing import pack


class SharedPrefix:
    """The shared tokens and their cache.

    Args:
        language_model: runs over them here.
        ids: the tokens, BOS included.
    """

    @torch.no_grad()
    def __init__(self, language_model: LanguageModel, ids: Sequence[int]) -> None:
        self.language_model = language_model
        # The last token comes with each row, so that no row is empty.
        self.ids, self.last = list(ids[:-1]), list(ids[-1:])
        self.cache: Any = None
        if self.ids and language_model.takes_positions:
            _, self.cache = language_model.prefill(pack([padded(language_model, [self.ids])]))
        self.capacity = _capacity(self.cache)

    @torch.no_grad()
    def option_scores(
        self, rows: Sequence[Sequence[int]], options: Sequence[Sequence[int]]
    ) -> Tensor:
        """log p(option | prefix, row) as in ``models.option_scoring``, [rows, options]."""
        lm = self.language_model
        rows = [[*self.last, *row] for row in rows]
        length = len(self.ids) + max(map(len, rows)) + max(map(len, options))
        if length > self.capacity:
            return option_scores(lm, [padded(lm, [[*self.ids, *row] for row in rows])], options)
        return option_scores(lm, [padded(lm, rows)], options, after=self.cache)


def _capacity(cache: Any) -> float:
    """How many tokens, pads included, the cache may grow to; 0 where it cannot be reused.

    A sliding window counts pads as tokens, so none may leave it. States that are not keys and
    values (Mamba's and the like) would absorb pads.
    """
    layers = getattr(cache, "layers", None)
    if not layers or any(type(layer) not in GROWING for layer in layers):
        return 0
    return min(getattr(layer, "sliding_window", float("inf")) for layer in layers)
