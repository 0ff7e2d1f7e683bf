"""`dwatt`: depth-wise attention, after DWAtt (ElNokrashy et al. 2022, arXiv 2209.15168).

    q = MLP_q(h_L)      v_l = Norm_l(MLP_l(h_l))      α = softmax_l(q · k_l / √d)
    f = h_L + Σ α_l v_l

The last state asks, each layer has a learned key k_l and a value network of its own. MLP is
Linear(E → d) GELU Linear(d → ·): the paper's exact widths and activations are not verified.
``start="last"`` begins the norms' gains at 0, so that f = h_L before training, exactly.

Legend: L layers, B batch, S encoder tokens, E encoder width, d inner width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerbridge.errors import ConfigError
from layerbridge.models.fusion.strategy import Fusion
from layerbridge.models.hidden_states import HiddenStates


class DepthwiseAttention(Fusion):
    """Adds to the last state what the other layers have to say.

    Args:
        inner: d, the width of the networks and of the keys.

    Raises:
        ConfigError: ``inner`` is not positive.
    """

    def __init__(
        self,
        num_layers: int,
        width: int,
        *,
        start: str = "uniform",
        normalize: str | None = None,
        inner: int = 64,
    ) -> None:
        super().__init__(num_layers, width, start=start, normalize=normalize)
        if inner < 1:
            raise ConfigError(f"inner={inner} is too small", allowed="1 or more")
        self.keys = nn.Parameter(torch.randn(num_layers, inner))
        self.query = _network(width, inner, inner)
        self.values = nn.ModuleList(_network(width, inner, width) for _ in range(num_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(num_layers))
        if start == "last":
            for parameter in self.norms.parameters():
                nn.init.zeros_(parameter)

    def fuse(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """Returns f = h_L + Σ α_l v_l."""
        fused = states.last.float()
        alpha = self.alpha(states).unbind(-1)
        parts = zip(alpha, states.layers, self.values, self.norms, strict=True)
        for weight, layer, value, norm in parts:
            fused = fused + weight[..., None] * norm(value(layer.float()))
        return fused

    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """Returns α of each token: the weights of what is added to the last state."""
        return self.alpha(self.prepared(states))

    def alpha(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """Returns α of prepared states."""
        query = self.query(states.last.float())
        return (query @ self.keys.T / self.keys.shape[1] ** 0.5).softmax(-1)


def _network(width: int, inner: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, out))
