"""The projection: fused encoder states → soft tokens of the language model.

Legend: B batch, S encoder tokens, E encoder width, D language model width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Projection(nn.Module):
    """Linear(E → D) with bias, and the boundary: one vector after the last soft token.

    The boundary starts at 0 (LangBridge draws it from N(0, 1), many times the norm of a word).
    """

    def __init__(self, encoder_width: int, language_model_width: int, *, boundary: bool = True):
        super().__init__()
        self.linear = nn.Linear(encoder_width, language_model_width)
        self.boundary = nn.Parameter(torch.zeros(language_model_width)) if boundary else None

    def forward(self, fused: Float[Tensor, "B S E"]) -> Float[Tensor, "B S D"]:
        """W f + b."""
        return self.linear(fused)

    @torch.no_grad()
    def rescale(self, rms_in: float, rms_out: float) -> None:
        """Scales the random start so that states of RMS ``rms_in`` come out at ``rms_out``.

        PyTorch draws the weights from U(-1/√E, 1/√E), of variance 1/(3E): without the bias, the
        output's RMS is rms_in / √3, whatever the language model's embeddings are like.
        """
        self.linear.weight *= rms_out * 3**0.5 / rms_in
        self.linear.bias.zero_()
