"""`last`: f = h_L, the LangBridge baseline (arXiv 2401.10695, §3)."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from layerbridge.models.fusion.strategy import Fusion
from layerbridge.models.hidden_states import HiddenStates


class Last(Fusion):
    """Takes the encoder's final hidden state and nothing else; it has no parameters."""

    @property
    def required_layers(self) -> Sequence[int]:
        """h_L alone."""
        return (self.num_layers - 1,)

    def fuse(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """f = h_L."""
        return states.last.float()

    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """1 on the last layer, 0 elsewhere."""
        batch, tokens, _ = states.last.shape
        weights = states.last.new_zeros(batch, tokens, len(states)).float()
        weights[..., -1] = 1.0
        return weights
