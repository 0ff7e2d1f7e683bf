"""`fine-grained`: each dimension has weights of its own (Liu et al. 2020, arXiv 2012.14768).

    A = softmax(W) over the layers        f = Σ A_l ⊙ h_l

Legend: L layers, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerbridge.models.fusion.strategy import Fusion, weighted_sum
from layerbridge.models.hidden_states import HiddenStates


class FineGrained(Fusion):
    """L·E learned weights, the same for every token."""

    def __init__(
        self, num_layers: int, width: int, *, start: str = "uniform", normalize: str | None = None
    ) -> None:
        super().__init__(num_layers, width, start=start, normalize=normalize)
        self.w = nn.Parameter(torch.zeros(num_layers, width))
        with torch.no_grad():
            self.w[-1] += self.start_bias()

    def alpha(self) -> Float[Tensor, "L E"]:
        """Returns A = softmax(W)."""
        return self.w.float().softmax(0)

    def fuse(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """Returns f = Σ A_l ⊙ h_l."""
        return weighted_sum(self.alpha(), states)

    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """Returns the mean of A over the dimensions, repeated for every token."""
        return self.alpha().mean(1).expand(*states.mask.shape, -1)
