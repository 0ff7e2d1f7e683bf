"""`fixed`: the mean of a few layers that one names; a middle layer, say, or the last four."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import ConfigError
from layerbridge.models.fusion.strategy import Fusion
from layerbridge.models.hidden_states import HiddenStates


class Fixed(Fusion):
    """f = mean of the named h_l; it has no parameters.

    The encoder need not run the layers above the highest one.

    Args:
        layers: numbers of layers, from 1 to L as in h₁ … h_L, or from -L to
            -1, counted from the last.

    Raises:
        ConfigError: no layers, one that the encoder does not have, or a start that fixed weights
            cannot follow.
    """

    def __init__(
        self,
        num_layers: int,
        width: int,
        *,
        start: str = "uniform",
        normalize: str | None = None,
        layers: int | Sequence[int] = (-1,),
    ) -> None:
        if start != "uniform":
            raise ConfigError(
                f"fusion 'fixed' cannot start at {start!r}: its weights are fixed",
                allowed="start 'uniform'",
            )
        super().__init__(num_layers, width, start=start, normalize=normalize)
        numbers = [layers] if isinstance(layers, int) else list(layers)
        allowed = f"1 to {num_layers}, or -{num_layers} to -1"
        if not numbers:
            raise ConfigError("fusion 'fixed' was given no layers", allowed=allowed)
        for number in numbers:
            if not isinstance(number, int) or not 1 <= abs(number) <= num_layers:
                raise ConfigError(f"the encoder has no layer {number!r}", allowed=allowed)
        indices = {number - 1 if number > 0 else num_layers + number for number in numbers}
        self.indices = tuple(sorted(indices))

    @property
    def required_layers(self) -> Sequence[int]:
        """The named layers."""
        return self.indices

    def prepared(self, states: HiddenStates) -> HiddenStates:
        """The named layers alone are scaled; of the others there may be no numbers."""
        assert len(states) == self.num_layers, (len(states), self.num_layers)
        if self.normalize != "rms":
            return states
        scaled = HiddenStates(
            [states.layers[p] for p in self.indices], states.mask
        ).rms_normalized()
        layers = list(states.layers)
        for index, layer in zip(self.indices, scaled.layers, strict=True):
            layers[index] = layer
        return HiddenStates(layers, states.mask)

    def fuse(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """f = Σ h_l / n over the n named layers."""
        total = states.layers[self.indices[0]].float()
        for index in self.indices[1:]:
            total = total + states.layers[index]
        return total / len(self.indices)

    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """1/n on the named layers, 0 elsewhere."""
        batch, tokens, _ = states.layers[self.indices[0]].shape
        weights = torch.zeros(batch, tokens, self.num_layers, device=states.mask.device)
        weights[..., list(self.indices)] = 1 / len(self.indices)
        return weights
