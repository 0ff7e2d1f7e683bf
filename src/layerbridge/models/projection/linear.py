"""`linear`: the projection of LangBridge and of arXiv 2508.09091, §3; and what all share.

    soft = W (f − μ)/σ + b

Legend: B batch, S encoder tokens, E encoder width, D language model width.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Projection(nn.Module):
    """Linear(E → D) with bias, and the boundary: one vector after the last soft token.

    The boundary starts at 0; LangBridge draws it from N(0, 1), many times the norm of a token.
    μ = 0 and σ = 1, as in the paper, unless ``standardize`` was called. They are not trained, and
    change only how easily W and b are trained, not what they can express.

    Other projections are subclasses: they have features φ of a standardized state, of which
    ``linear`` makes soft tokens.
    """

    # What ``projection_start`` may be.
    starts: tuple[str, ...] = ("random", "scaled", "aligned")
    mean: Tensor
    std: Tensor

    def __init__(self, encoder_width: int, language_model_width: int, *, boundary: bool = True):
        super().__init__()
        self.linear = nn.Linear(encoder_width, language_model_width)
        self.boundary = nn.Parameter(torch.zeros(language_model_width)) if boundary else None
        self.register_buffer("mean", torch.zeros(encoder_width))
        self.register_buffer("std", torch.ones(encoder_width))

    def forward(
        self, fused: Float[Tensor, "B S E"], mask: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B n D"]:
        """Returns W φ + b, which is W (f − μ)/σ + b here; n = S soft tokens.

        Args:
            fused: f.
            mask: true for real tokens; None if all are. A projection of single tokens ignores it.
        """
        return self.linear(self.features(fused))

    def features(self, fused: Float[Tensor, "*tokens E"]) -> Float[Tensor, "*tokens F"]:
        """Returns φ, of width F: what ``linear`` reads."""
        return self.standardized(fused)

    def standardized(self, fused: Float[Tensor, "*tokens E"]) -> Float[Tensor, "*tokens E"]:
        """Returns (f − μ)/σ."""
        return (fused - self.mean) / self.std

    def soft_mask(self, mask: Bool[Tensor, "B S"]) -> Bool[Tensor, "B n"]:
        """Returns which soft tokens are real, by the mask of the encoder tokens."""
        return mask

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
    def rescale(self, rms: float, features: float = 1.0) -> None:
        """Scales the random weights so that standardized states come out at ``rms``.

        PyTorch draws them from U(-1/√F, 1/√F), of variance 1/(3F): without the bias, the RMS of
        the output is that of the features, times 1/√3.

        Args:
            rms: of the soft tokens.
            features: RMS of φ: 1 for standardized states.
        """
        self.linear.weight *= rms * 3**0.5 / features
        self.linear.bias.zero_()
