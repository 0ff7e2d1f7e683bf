"""Fusion: the interface of the strategies that mix L layers into one state per token.

Legend: L layers, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from layerbridge.models.hidden_states import HiddenStates

# The last layer's weight before training with ``start="last"``; the others are equal.
LAST_LAYER_START = 0.95


class Fusion(nn.Module, ABC):
    """Mixes h₁ … h_L into f = Σ α_l h_l (arXiv 2508.09091, §3).

    A subclass implements ``fuse`` and ``weights``, and ``required_layers`` if it reads only some.
    Keyword arguments of its own ``__init__`` are its ``fusion_options``.

    Attributes:
        default_start: the start that works.
        learning_rate_scale: learning rate of its parameters that works, relative to the
            projection's.

    Args:
        num_layers: L, the number of encoder layers.
        width: E, the width of their hidden states.
        start: ``"uniform"`` or ``"last"``: the layers that α favors before training.
        normalize: ``"rms"`` or None: how states are scaled before they are mixed.
    """

    default_start: ClassVar[str] = "last"
    learning_rate_scale: ClassVar[float] = 1.0

    def __init__(
        self, num_layers: int, width: int, *, start: str = "uniform", normalize: str | None = None
    ) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.width = width
        self.start = start
        self.normalize = normalize

    def forward(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """Returns f = Σ α_l h_l in float32, whatever the encoder's dtype."""
        return self.fuse(self.prepared(states))

    def prepared(self, states: HiddenStates) -> HiddenStates:
        """Returns the states unchanged, or scaled to unit RMS."""
        assert len(states) == self.num_layers, (len(states), self.num_layers)
        return states.rms_normalized() if self.normalize == "rms" else states

    @property
    def required_layers(self) -> Sequence[int]:
        """Indices of the layers that are read; the others may be on the meta device."""
        return range(self.num_layers)

    @abstractmethod
    def fuse(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """Returns f of prepared states, in float32."""

    @abstractmethod
    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """Returns α of each token; rows sum to 1. For plots, not for training."""

    def start_bias(self) -> float:
        """Returns the bias b on the last layer's logit that starts its weight at w = 0.95.

        With equal logits otherwise, e^b / (e^b + L - 1) = w, so b = log(w / (1 - w) · (L - 1)).
        """
        if self.start != "last" or self.num_layers == 1:
            return 0.0
        odds = LAST_LAYER_START / (1 - LAST_LAYER_START)
        return math.log(odds * (self.num_layers - 1))


def weighted_sum(
    weights: Shaped[Tensor, "L *dims"], states: HiddenStates
) -> Float[Tensor, "B S E"]:
    """Returns Σ w_l h_l in float32, layer by layer: no [L, B, S, E] tensor is made.

    Args:
        weights: of each layer: one number, or one for each of E, or for each token [B, S, 1].
        states: as they are summed.
    """
    total = torch.zeros_like(states.last, dtype=torch.float32)
    for weight, layer in zip(weights, states.layers, strict=True):
        total = total + weight * layer.float()
    return total
