"""`attention`: a query weighs the layers of each token ("AT" in the code of arXiv 2508.09091).

    α = softmax_l(q · h_l / √E)        f = Σ α_l h_l

No positions, no bias and no block. ``start="last"`` adds a constant to the score of the last layer,
the b of ``Fusion.start_bias``; it is not trained.

Legend: L layers, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerbridge.models.fusion.strategy import Fusion, weighted_sum
from layerbridge.models.hidden_states import HiddenStates


class Attention(Fusion):
    """A learned query q, drawn from N(0, 1)."""

    def __init__(
        self, num_layers: int, width: int, *, start: str = "uniform", normalize: str | None = None
    ) -> None:
        super().__init__(num_layers, width, start=start, normalize=normalize)
        self.query = nn.Parameter(torch.randn(width))

    def fuse(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """Returns f = Σ α_l h_l."""
        alpha = self.alpha(states).movedim(-1, 0)[..., None]
        return weighted_sum(alpha, states)

    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """Returns α of each token."""
        return self.alpha(self.prepared(states))

    def alpha(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """Returns α of prepared states."""
        query = self.query.float() / self.width**0.5
        scores = torch.stack([layer.float() @ query for layer in states.layers], -1)
        last = torch.zeros(self.num_layers, device=scores.device)
        last[-1] = self.start_bias()
        return (scores + last).softmax(-1)
