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

    The boundary starts at 0 (LangBridge draws it from N(0, 1), many times the norm of a word).
    μ = 0 and σ = 1, the paper's, unless ``standardize`` was called: they are not trained, and
    change no function that W and b could express, only which ones training finds easily.
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
        """W (f − μ)/σ + b."""
        return self.linear((fused - self.mean) / self.std)

    @torch.no_grad()
    def standardize(self, states: Float[Tensor, "N E"]) -> None:
        """Takes μ and σ, one for each of the E dimensions, from the states of N tokens.

        The states of a sentence encoder share a large mean. Left in, it turns any step on W into
        the same shift of every soft token, hundreds of times what tells two texts apart.
        """
        deviation = states.float().std(0, correction=0)
        # A dimension that hardly moves must not be blown up.
        self.std.copy_(deviation.clamp_min(0.01 * deviation.mean()))
        self.mean.copy_(states.float().mean(0))

    @torch.no_grad()
    def rescale(self, rms: float) -> None:
        """Scales the random start so that standardised states come out at ``rms``.

        PyTorch draws the weights from U(-1/√E, 1/√E), of variance 1/(3E): without the bias, the
        output's RMS is 1/√3, whatever the language model's embeddings are like.
        """
        self.linear.weight *= rms * 3**0.5
        self.linear.bias.zero_()
