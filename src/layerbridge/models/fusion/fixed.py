"""`fixed`: the mean of some given layers, such as a middle layer or the last four."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import ConfigError
from layerbridge.models.fusion.strategy import Fusion
from layerbridge.models.hidden_states import HiddenStates


class Fixed(Fusion):
    """The mean of some hidden states, without parameters; layers above them are not run.

    Args:
        layers: 1 to L as in h₁ … h_L, or -L to -1 counted from the last.

    Raises:
        ConfigError: no layers, a layer that the encoder does not have, or ``start="last"``, which
            fixed weights cannot follow.
    """

    name = "fixed"
    default_start: ClassVar[str] = "uniform"

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
                f"fusion {self.name!r} cannot start at {start!r}: its weights are fixed",
                allowed="start 'uniform'",
            )
        super().__init__(num_layers, width, start=start, normalize=normalize)
        numbers = [layers] if isinstance(layers, int) else list(layers)
        allowed = f"1 to {num_layers}, or -{num_layers} to -1"
        if not numbers:
            raise ConfigError("fusion 'fixed' needs at least one layer", allowed=allowed)
        for number in numbers:
            if not isinstance(number, int) or not 1 <= abs(number) <= num_layers:
                raise ConfigError(f"the encoder has no layer {number!r}", allowed=allowed)
        indices = {number - 1 if number > 0 else num_layers + number for number in numbers}
        self.indices = tuple(sorted(indices))

    @property
    def required_layers(self) -> Sequence[int]:
        """Indices of the given layers."""
        return self.indices

    def prepared(self, states: HiddenStates) -> HiddenStates:
        """Scales only the selected layers; the others may be on the meta device."""
        assert len(states) == self.num_layers, (len(states), self.num_layers)
        if self.normalize != "rms":
            return states
        selected = HiddenStates([states.layers[i] for i in self.indices], states.mask)
        layers = list(states.layers)
        for index, layer in zip(self.indices, selected.rms_normalized().layers, strict=True):
            layers[index] = layer
        return HiddenStates(layers, states.mask)

    def fuse(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """Returns f = Σ h_l / n over the n given layers; no [L, B, S, E] tensor is made."""
        total = torch.zeros_like(states.layers[self.indices[0]], dtype=torch.float32)
        for index in self.indices:
            total += states.layers[index]
        return total / len(self.indices)

    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """Returns 1/n for the given layers, 0 for the others."""
        weights = torch.zeros(*states.mask.shape, self.num_layers, device=states.mask.device)
        weights[..., list(self.indices)] = 1 / len(self.indices)
        return weights
