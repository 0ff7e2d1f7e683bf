"""`global-softmax`: one weight per layer, the same for every token (arXiv 2508.09091, §3.1).

    τ = base + factor · θ        α = softmax(τ · w)        f = Σ α_l h_l

Legend: L layers, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerbridge.models.fusion.strategy import Fusion
from layerbridge.models.hidden_states import HiddenStates


class GlobalSoftmax(Fusion):
    """L learned weights and a learned scale.

    The paper's temperature of 1e-2 is 1/base here, since the scale multiplies. w, θ and τ·w stay
    in float32: at θ = 1e-5 and w = 3e-5, bfloat16 would lose every step.

    Args:
        base: the scale τ at θ = 0.
        factor: the effect of θ on τ. At 1e5, one step of 1e-3 on θ moves τ by 100: the fusion
            needs a lower learning rate than the projection.
    """

    learning_rate_scale: ClassVar[float] = 0.03

    def __init__(
        self,
        num_layers: int,
        width: int,
        *,
        start: str = "uniform",
        normalize: str | None = None,
        base: float = 1e2,
        factor: float = 1e5,
    ) -> None:
        super().__init__(num_layers, width, start=start, normalize=normalize)
        self.base = base
        self.factor = factor
        self.w = nn.Parameter(torch.full((num_layers,), 3e-5))
        self.theta = nn.Parameter(torch.tensor(1e-5))
        with torch.no_grad():
            self.w[-1] += self.start_bias() / self.scale().item()

    def scale(self) -> Float[Tensor, ""]:
        """Returns τ = base + factor · θ."""
        return self.base + self.factor * self.theta.float()

    def alpha(self) -> Float[Tensor, " L"]:
        """Returns α = softmax(τ · w)."""
        return (self.scale() * self.w.float()).softmax(0)

    def fuse(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """Returns f = Σ α_l h_l."""
        alpha = self.alpha()
        if not torch.is_grad_enabled():
            # Layer by layer: no [L, B, S, E] tensor is made.
            fused = torch.zeros_like(states.last, dtype=torch.float32)
            for weight, layer in zip(alpha, states.layers, strict=True):
                fused += weight * layer.float()
            return fused
        # One matrix-vector product; its gradient with respect to α is another.
        stacked = states.stacked.float()
        return (alpha @ stacked.flatten(1)).view_as(states.last)

    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """Returns α, repeated for every token."""
        return self.alpha().expand(*states.mask.shape, -1)
