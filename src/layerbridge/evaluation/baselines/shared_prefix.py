"""A beginning that all prompts share: run once, its cache gone on from for every batch.

The numbers are those of the whole prompts. Where a cache cannot be gone on from with the same
numbers, the whole prompts are run. Knows tokens and the language model, not what they say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from layerbridge.evaluation.baselines.prompt import padded
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.option_scoring import GROWING, option_scores
from layerbridge.models.packing import pack


class SharedPrefix:
    """The shared tokens and what the model made of them.

    Args:
        language_model: it is run over them here.
        ids: the tokens, BOS included.
    """

    @torch.no_grad()
    def __init__(self, language_model: LanguageModel, ids: Sequence[int]) -> None:
        self.language_model = language_model
        # The last one comes with each row: so no row is empty.
        self.ids, self.last = list(ids[:-1]), list(ids[-1:])
        self.cache: Any = None
        if self.ids and language_model.takes_positions:
            _, self.cache = language_model.prefill(pack([padded(language_model, [self.ids])]))
        # Tokens that may be read through the cache; between it and a short row there are pads.
        self.most = _holds(self.cache)

    @torch.no_grad()
    def option_scores(
        self, rows: Sequence[Sequence[int]], options: Sequence[Sequence[int]]
    ) -> Tensor:
        """log p(option | prefix, row), as ``models.option_scoring.option_scores`` gives it.

        Args:
            rows: the tokens that follow the prefix.
            options: as there.
        """
        lm = self.language_model
        rows = [[*self.last, *row] for row in rows]
        shared, longest = len(self.ids), max(map(len, options))
        if shared + max(map(len, rows)) + longest > self.most:
            return option_scores(lm, [padded(lm, [[*self.ids, *row] for row in rows])], options)
        return option_scores(lm, [padded(lm, rows)], options, after=self.cache)


def _holds(cache: Any) -> float:
    """How many tokens, pads included, the cache may come to; 0 where it is not to be gone on from.

    A sliding window counts pads as tokens, so none may leave it. States that are no keys and values
    (Mamba's and the like) would take pads in.
    """
    layers = getattr(cache, "layers", None)
    if not layers or any(type(layer) not in GROWING for layer in layers):
        return 0
    return min(getattr(layer, "sliding_window", float("inf")) for layer in layers)
