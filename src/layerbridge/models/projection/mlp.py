"""`mlp`: two linear maps with an activation between them, token by token.

    φ = act(V (f − μ)/σ + c)        soft = W φ + b        V: E → factor·E

``gelu`` with factor 2 is LangBridge's "ffn" (arXiv 2401.10695); ``relu`` with factor 2 is
MindMerger's and LayAlign's (arXiv 2405.17386, 2502.11405), with factor 1 the "mapper" in the code
of arXiv 2508.09091. The map before the activation starts at random also with
``projection_start="aligned"``, which then fits W and b to its features.

Legend: B batch, S encoder tokens, E encoder width, D language model width, F = factor·E.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from layerbridge.errors import ConfigError
from layerbridge.models.projection.linear import Projection

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


class MlpProjection(Projection):
    """Linear(E → factor·E), activation, Linear(factor·E → D).

    Args:
        activation: ``"gelu"`` or ``"relu"``.
        factor: of the inner width.

    Raises:
        ConfigError: the activation is unknown, or the factor not positive.
    """

    def __init__(
        self,
        encoder_width: int,
        language_model_width: int,
        *,
        boundary: bool = True,
        activation: str = "gelu",
        factor: int = 2,
    ) -> None:
        super().__init__(encoder_width, language_model_width, boundary=boundary)
        if activation not in ACTIVATIONS:
            raise ConfigError(f"unknown activation {activation!r}", allowed=ACTIVATIONS)
        if factor < 1:
            raise ConfigError(f"factor={factor} is too small", allowed="1 or more")
        self.activation = activation
        self.hidden = nn.Linear(encoder_width, factor * encoder_width)
        self.linear = nn.Linear(factor * encoder_width, language_model_width)

    def features(self, fused: Float[Tensor, "*tokens E"]) -> Float[Tensor, "*tokens F"]:
        """Returns φ = act(V (f − μ)/σ + c)."""
        return ACTIVATIONS[self.activation](self.hidden(self.standardized(fused)))
