"""The projection: fused encoder states → soft tokens of the language model.

    soft = W (f − μ)/σ + b

Legend: B batch, S encoder tokens, E encoder width, D language model width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Projection(nn.Module):
    """Linear(E → D) with bias, and the boundary: one vector after the last soft token.

    The boundary starts at 0; LangBridge draws it from N(0, 1), many times the norm of a token.
    μ = 0 and σ = 1, as in the paper, unless ``standardize`` was called. They are not trained, and
    change only how easily W and b are trained, not what they can express.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder_width: int, language_model_width: int, *, boundary: bool = True):
        super().__init__()
        self.linear = nn.Linear(encoder_width, language_model_width)
        self.boundary = nn.Parameter(torch.zeros(language_model_width)) if boundary else None
        self.register_buffer("mean", torch.zeros(encoder_width))
        self.register_buffer("std", torch.ones(encoder_width))

    def forward(self, fused: Float[Tensor, "B S E"]) -> Float[Tensor, "B S D"]:
        """Returns W (f − μ)/σ + b."""
        return self.linear((fused - self.mean) / self.std)

    @torch.no_grad()
    def standardize(self, mean: Float[Tensor, " E"], std: Float[Tensor, " E"]) -> None:
        """Sets μ and σ of each of the E dimensions, as measured over many tokens.

        The states of a sentence encoder share a large mean: with it, a step on W shifts all soft
        tokens alike, by hundreds of times the difference between two texts.
        """
        # A nearly constant dimension must not be amplified.
        self.std.copy_(std.clamp_min(0.01 * std.mean()))
        self.mean.copy_(mean)

    @torch.no_grad()
    def rescale(self, rms: float) -> None:
        """Scales the random weights so that standardized states come out at ``rms``.

        PyTorch draws them from U(-1/√E, 1/√E), of variance 1/(3E): without the bias, the RMS of
        the output is 1/√3.
        """
        self.linear.weight *= rms * 3**0.5
        self.linear.bias.zero_()
