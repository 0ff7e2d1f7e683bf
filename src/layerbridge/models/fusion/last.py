"""`last`: f = h_L, the LangBridge baseline (arXiv 2401.10695, §3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.models.fusion.strategy import Fusion
from layerbridge.models.hidden_states import HiddenStates


class Last(Fusion):
    """The encoder's final hidden state, without parameters."""

    @property
    def required_layers(self) -> Sequence[int]:
        """Index of h_L."""
        return (self.num_layers - 1,)

    def fuse(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """Returns f = h_L."""
        return states.last.float()

    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """Returns 1 for the last layer, 0 for the others."""
        weights = torch.zeros(*states.mask.shape, len(states), device=states.mask.device)
        weights[..., -1] = 1.0
        return weights
