"""`uniform`: f = (h₁ + … + h_L) / L, what no training of the weights can do."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import ConfigError
from layerbridge.models.fusion.strategy import Fusion
from layerbridge.models.hidden_states import HiddenStates


class Uniform(Fusion):
    """The mean of all layers; it has no parameters, so it tells learned weights from mere mixing.

    Raises:
        ConfigError: with ``start="last"``, which fixed weights cannot follow.
    """

    def __init__(
        self, num_layers: int, width: int, *, start: str = "uniform", normalize: str | None = None
    ) -> None:
        if start != "uniform":
            raise ConfigError(
                f"fusion 'uniform' cannot start at {start!r}: its weights are fixed",
                allowed="start 'uniform'",
            )
        super().__init__(num_layers, width, start=start, normalize=normalize)

    def fuse(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """f = Σ h_l / L, layer by layer: no [L, B, S, E] tensor is made."""
        total = torch.zeros_like(states.last, dtype=torch.float32)
        for layer in states.layers:
            total += layer
        return total / len(states)

    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """1/L everywhere."""
        batch, tokens, _ = states.last.shape
        return torch.full((batch, tokens, len(states)), 1 / len(states), device=states.last.device)
