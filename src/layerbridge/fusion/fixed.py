"""`fixed`: the mean of a few layers that one names; a middle layer, say, or the last four."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import ConfigError
from layerbridge.fusion.strategy import Fusion
from layerbridge.layer_states import LayerStates


class Fixed(Fusion):
    """f = mean of the named h_l; it has no parameters.

    The encoder need not run the layers above the highest one.

    Args:
        which: numbers of layers, from 1 to L as in h₁ … h_L, or from -L to
            -1, counted from the last.

    Raises:
        ConfigError: no layers, one that the encoder does not have, or a start that fixed weights
            cannot follow.
    """

    def __init__(
        self,
        layers: int,
        width: int,
        *,
        start: str = "uniform",
        normalize: str | None = None,
        which: int | Sequence[int] = (-1,),
    ) -> None:
        if start != "uniform":
            raise ConfigError(
                f"fusion 'fixed' cannot start at {start!r}: its weights are fixed",
                allowed="start 'uniform'",
            )
        super().__init__(layers, width, start=start, normalize=normalize)
        numbers = [which] if isinstance(which, int) else list(which)
        allowed = f"1 to {layers}, or -{layers} to -1"
        if not numbers:
            raise ConfigError("fusion 'fixed' was given no layers", allowed=allowed)
        for number in numbers:
            if not isinstance(number, int) or not 1 <= abs(number) <= layers:
                raise ConfigError(f"the encoder has no layer {number!r}", allowed=allowed)
        places = {number - 1 if number > 0 else layers + number for number in numbers}
        self.places = tuple(sorted(places))

    @property
    def reads(self) -> Sequence[int]:
        """The named layers."""
        return self.places

    def prepared(self, states: LayerStates) -> LayerStates:
        """The named layers alone are scaled; of the others there may be no numbers."""
        assert len(states) == self.layers, (len(states), self.layers)
        if self.normalize != "rms":
            return states
        scaled = LayerStates([states.layers[p] for p in self.places], states.mask).rms_normalized()
        layers = list(states.layers)
        for place, layer in zip(self.places, scaled.layers, strict=True):
            layers[place] = layer
        return LayerStates(layers, states.mask)

    def fuse(self, states: LayerStates) -> Float[Tensor, "B S E"]:
        """f = Σ h_l / n over the n named layers."""
        total = states.layers[self.places[0]].float()
        for place in self.places[1:]:
            total = total + states.layers[place]
        return total / len(self.places)

    def weights(self, states: LayerStates) -> Float[Tensor, "B S L"]:
        """1/n on the named layers, 0 elsewhere."""
        batch, tokens, _ = states.layers[self.places[0]].shape
        weights = torch.zeros(batch, tokens, self.layers, device=states.mask.device)
        weights[..., list(self.places)] = 1 / len(self.places)
        return weights
