"""HiddenStates: the output of every encoder layer, and which tokens are real.

Legend: L layers, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

# The smallest mean square a state is divided by, so that an all-zero state stays zero.
RMS_EPSILON = 1e-6


class HiddenStates:
    """The hidden states h₁ … h_L of one batch; h_L is after the encoder's final norm.

    Args:
        layers: L tensors [B, S, E], or one tensor [L, B, S, E].
        mask: [B, S], true (or 1) for real tokens.
    """

    def __init__(
        self,
        layers: Sequence[Float[Tensor, "B S E"]] | Float[Tensor, "L B S E"],
        mask: Shaped[Tensor, "B S"],
    ) -> None:
        if isinstance(layers, Tensor):
            self.layers: tuple[Tensor, ...] = layers.unbind(0)
            # Fills the cached property below, so that one tensor is not stacked again.
            self.__dict__["stacked"] = layers
        else:
            self.layers = tuple(layers)
        self.mask = mask.bool()

    def __len__(self) -> int:
        return len(self.layers)

    @cached_property
    def stacked(self) -> Float[Tensor, "L B S E"]:
        """All layers in one tensor, stacked on first use."""
        return torch.stack(self.layers)

    @property
    def last(self) -> Float[Tensor, "B S E"]:
        """h_L, the encoder's final hidden state."""
        return self.layers[-1]

    def finite_rows(self) -> Bool[Tensor, " B"]:
        """Returns which texts have only finite states; layers on the meta device do not count."""
        finite = torch.ones_like(self.mask[:, 0])
        for layer in self.layers:
            if not layer.is_meta:
                finite &= (layer.isfinite().all(-1) | ~self.mask).all(1)
        return finite

    def rms_normalized(self) -> HiddenStates:
        """Returns each state divided by its root mean square over E.

        The residual streams of T5 and Gemma grow by orders of magnitude from layer to layer, so
        that a few layers would dominate a weighted sum.
        """
        layers = []
        for layer in self.layers:
            state = layer.float()
            scale = state.square().mean(-1, keepdim=True).clamp_min(RMS_EPSILON).rsqrt()
            layers.append((state * scale).to(layer.dtype))
        return HiddenStates(layers, self.mask)

    def to(self, device: torch.device | str) -> HiddenStates:
        """Returns the states on ``device``; layers on the meta device stay there."""
        stacked = self.__dict__.get("stacked")
        if stacked is not None:
            return HiddenStates(stacked.to(device), self.mask.to(device))
        layers = [layer if layer.is_meta else layer.to(device) for layer in self.layers]
        return HiddenStates(layers, self.mask.to(device))
