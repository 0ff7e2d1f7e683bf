"""HiddenStates: what an encoder says at every layer, and which tokens are real.

Legend: L layers, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

# The smallest mean square a state is divided by, so that an all-zero state stays zero.
RMS_EPSILON = 1e-6


class HiddenStates:
    """The hidden states h₁ … h_L of one batch, the last one after the encoder's final norm.

    Args:
        layers: L tensors [B, S, E], or one tensor [L, B, S, E].
        mask: [B, S], true (or 1) where a token is real.
    """

    def __init__(
        self,
        layers: Sequence[Float[Tensor, "B S E"]] | Float[Tensor, "L B S E"],
        mask: Shaped[Tensor, "B S"],
    ) -> None:
        if isinstance(layers, Tensor):
            self.layers: tuple[Tensor, ...] = layers.unbind(0)
            # Seeds the cached property below: what came as one tensor is not stacked again.
            self.__dict__["stacked"] = layers
        else:
            self.layers = tuple(layers)
        self.mask = mask.bool()

    def __len__(self) -> int:
        return len(self.layers)

    @cached_property
    def stacked(self) -> Float[Tensor, "L B S E"]:
        """All layers in one tensor; made on first use, since some strategies never need it."""
        return torch.stack(self.layers)

    @property
    def last(self) -> Float[Tensor, "B S E"]:
        """h_L, the encoder's final hidden state."""
        return self.layers[-1]

    def rms_normalized(self) -> HiddenStates:
        """Each state divided by its own root mean square over E, token by token.

        T5's and Gemma's residual stream grows by orders of magnitude from layer to layer; without
        this, a weighted sum is a vote in which the upper middle layers shout.
        """
        layers = []
        for layer in self.layers:
            state = layer.float()
            scale = state.square().mean(-1, keepdim=True).clamp_min(RMS_EPSILON).rsqrt()
            layers.append((state * scale).to(layer.dtype))
        return HiddenStates(layers, self.mask)

    def to(self, device: torch.device | str) -> HiddenStates:
        """The same states on ``device``; layers that were not kept stay without numbers."""
        stacked = self.__dict__.get("stacked")
        if stacked is not None:
            # In one piece, and not stacked again there.
            return HiddenStates(stacked.to(device), self.mask.to(device))
        layers = [layer if layer.is_meta else layer.to(device) for layer in self.layers]
        return HiddenStates(layers, self.mask.to(device))
