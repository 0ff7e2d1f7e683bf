"""Fusion: the contract of every strategy that mixes L layers into one state a token.

Legend: L layers, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from layerbridge.models.hidden_states import HiddenStates

# With ``start="last"``: the weight of the last layer before the first step; the rest is level.
LAST_LAYER_START = 0.95


class Fusion(nn.Module, ABC):
    """Mixes h₁ … h_L into f = Σ α_l h_l.

    Args:
        num_layers: L, how many layers the encoder has.
        width: E, the width of its states.
        start: ``"uniform"`` or ``"last"``, what the weights α favour before training.
        normalize: ``"rms"`` or None, how states are scaled before they are mixed.
    """

    def __init__(
        self, num_layers: int, width: int, *, start: str = "uniform", normalize: str | None = None
    ) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.width = width
        self.start = start
        self.normalize = normalize

    def forward(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """f = Σ α_l h_l, in float32 whatever the encoder's dtype."""
        return self.fuse(self.prepared(states))

    def prepared(self, states: HiddenStates) -> HiddenStates:
        """The states as the strategy sees them: as they are, or of unit RMS."""
        assert len(states) == self.num_layers, (len(states), self.num_layers)
        return states.rms_normalized() if self.normalize == "rms" else states

    @property
    def required_layers(self) -> Sequence[int]:
        """Indices of the layers it looks at; the others need not be kept."""
        return range(self.num_layers)

    @abstractmethod
    def fuse(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """f for states that are already prepared."""

    @abstractmethod
    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """α for each token; rows sum to 1. For plots and for reading, not for training."""

    def start_bias(self) -> float:
        """What to add to the last layer's logit so that its first weight is LAST_LAYER_START.

        With L level logits and b on the last: e^b / (e^b + L - 1) = w, so
        b = log(w / (1 - w) · (L - 1)).
        """
        if self.start != "last" or self.num_layers == 1:
            return 0.0
        odds = LAST_LAYER_START / (1 - LAST_LAYER_START)
        return math.log(odds * (self.num_layers - 1))
