"""`perceiver`: a fixed number of soft tokens, whatever the length of the text.

n learned latents Z read the text X and each other, depth times ("latent" in LangBridge, arXiv
2401.10695; the resampler of Flamingo, arXiv 2204.14198):

    Z ← Z + O · attention(Q LN(Z), K [LN'(X) ; LN(Z)], V [LN'(X) ; LN(Z)])     pads of X masked
    Z ← Z + Linear(4E → E) GELU Linear(E → 4E) Z
    soft = LN(W Z)                                                      dropout on Z in training

The attention has no biases. LangBridge's norm also goes over the boundary; a learned vector has the
scale it needs without one, so it stays outside here.

Legend: B batch, S encoder tokens, E encoder width, D language model width, n latents, K heads, d
width of a head.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from layerbridge.errors import ConfigError
from layerbridge.models.projection.linear import Projection


class PerceiverProjection(Projection):
    """Latents that attend to the fused states.

    Args:
        latents: n.
        depth: rounds of attention.
        heads: K.
        head_width: d.
        dropout: of the latents before they are projected.

    Raises:
        ConfigError: a number is out of range.
    """

    # No latent stands for a word, so there is nothing to align it to.
    starts = ("random", "scaled")

    def __init__(
        self,
        encoder_width: int,
        language_model_width: int,
        *,
        boundary: bool = True,
        latents: int = 32,
        depth: int = 1,
        heads: int = 8,
        head_width: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(encoder_width, language_model_width, boundary=boundary)
        counts = {"latents": latents, "depth": depth, "heads": heads, "head_width": head_width}
        for name, count in counts.items():
            if count < 1:
                raise ConfigError(f"{name}={count} is too small", allowed="1 or more")
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout={dropout} is not valid", allowed="0 to below 1")
        self.dropout = dropout
        self.latents = nn.Parameter(torch.randn(latents, encoder_width))
        self.rounds = nn.ModuleList(_Round(encoder_width, heads, head_width) for _ in range(depth))
        self.linear = nn.Linear(encoder_width, language_model_width, bias=False)
        self.norm = nn.LayerNorm(language_model_width)

    def forward(
        self, fused: Float[Tensor, "B S E"], mask: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B n D"]:
        """Returns the n soft tokens of each text."""
        if mask is None:
            mask = torch.ones_like(fused[..., 0], dtype=torch.bool)
        states = self.standardized(fused).masked_fill(~mask[..., None], 0.0)
        latents = self.latents.expand(len(fused), -1, -1)
        for each in self.rounds:
            latents = each(latents, states, mask)
        return self.norm(self.linear(F.dropout(latents, self.dropout, self.training)))

    def soft_mask(self, mask: Bool[Tensor, "B S"]) -> Bool[Tensor, "B n"]:
        """Returns true for all: latents are never padding."""
        return mask.new_ones(len(mask), len(self.latents))

    @torch.no_grad()
    def rescale(self, rms: float, features: float = 1.0) -> None:
        """Sets the gain of the last norm, so that soft tokens come out at ``rms``."""
        self.norm.weight.fill_(rms)
        self.norm.bias.zero_()


class _Round(nn.Module):
    """One round of attention and its feed-forward network."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.norm_states = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.feedforward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(
        self,
        latents: Float[Tensor, "B n E"],
        states: Float[Tensor, "B S E"],
        mask: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B n E"]:
        z = self.norm_latents(latents)
        read = torch.cat([self.norm_states(states), z], 1)  # [B, S+n, E]
        key, value = self.key_value(read).chunk(2, -1)
        visible = torch.cat([mask, mask.new_ones(z.shape[:2])], 1)[:, None, None, :]
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, K, ·, d]
            for part in (self.query(z), key, value)
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        latents = latents + self.out(attended.transpose(1, 2).flatten(2))
        return latents + self.feedforward(latents)
