"""`scalar-mix`: the weighted sum of ELMo (Peters et al. 2018, arXiv 1802.05365, equation 1).

    α = softmax(w)        f = γ Σ α_l h_l

Of its optional normalization of each layer, by one mean and deviation over a batch, nothing is
here: an answer would depend on the other texts. ``normalize="rms"`` is there for it.

Legend: L layers, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerbridge.models.fusion.strategy import Fusion, weighted_sum
from layerbridge.models.hidden_states import HiddenStates


class ScalarMix(Fusion):
    """L learned weights and a learned factor γ, which starts at 1."""

    def __init__(
        self, num_layers: int, width: int, *, start: str = "uniform", normalize: str | None = None
    ) -> None:
        super().__init__(num_layers, width, start=start, normalize=normalize)
        self.w = nn.Parameter(torch.zeros(num_layers))
        self.gamma = nn.Parameter(torch.tensor(1.0))
        with torch.no_grad():
            self.w[-1] += self.start_bias()

    def alpha(self) -> Float[Tensor, " L"]:
        """Returns α = softmax(w)."""
        return self.w.float().softmax(0)

    def fuse(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """Returns f = γ Σ α_l h_l."""
        return self.gamma.float() * weighted_sum(self.alpha(), states)

    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """Returns α, without γ, repeated for every token."""
        return self.alpha().expand(*states.mask.shape, -1)
