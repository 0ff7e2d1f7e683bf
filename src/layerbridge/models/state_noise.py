"""Noise in hidden states while a bridge is trained; answers never have any.

    state noise     h' = h + s σ_l ⊙ ε            ε ~ N(0, 1) for each token, layer and dimension
    language noise  h' = h + t/√n Σ_k g_k (μ_kl − μ_l,en)       g ~ N(0, 1), one draw for a text
    mixup           h' = λ h + (1 − λ) h of another text, λ ~ max(β, 1 − β), β ~ Beta(a, a)

σ_l is the deviation of English states in each dimension. Language noise moves all layers of a text
together, within the span of what centering would take away, and at t = 1 as far as languages differ
(their mean square). In mixup two texts are mixed token by token where both have one, as in
wordMixup (Guo et al. 2019, arXiv 1905.08941), and the loss is λ of the one target and 1 − λ of the
other. Encoder dropout is the encoder's own, in every layer: the authors of arXiv 2508.09091 train
so, and LangBridge and MindMerger, since their frozen encoders stay in train mode.

All draws come from torch's generators, which a checkpoint stores.

Legend: K layers with means, n languages besides English, B batch, S encoder tokens, E width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.language_means import LanguageMeans

_CONFIG_DROPOUT = ("attention_dropout", "dropout", "activation_dropout", "encoder_layerdrop")


@dataclass(frozen=True)
class Mixture:
    """What a batch was mixed of.

    Attributes:
        weight: λ, of the row itself.
        order: of the other row.
    """

    weight: float
    order: Int[Tensor, " B"]


class StateNoise:
    """The noise of one run.

    Args:
        means: of English, for state noise and language noise, and of the other languages.
        state_noise: s.
        language_noise: t.
        mixup: a; 0 for none.
        encoder_dropout: run the encoder with its dropout.
    """

    def __init__(
        self,
        means: LanguageMeans | None = None,
        *,
        state_noise: float = 0.0,
        language_noise: float = 0.0,
        mixup: float = 0.0,
        encoder_dropout: bool = False,
    ) -> None:
        self.layers = () if means is None else means.layers
        self.state_noise = state_noise
        self.language_noise = language_noise
        self.mixup = mixup
        self.encoder_dropout = encoder_dropout
        self._std: Tensor | None = None
        self._shifts: Tensor | None = None
        if state_noise:
            assert means is not None
            assert means.english is not None
            self._std = means.english.std
        if language_noise:
            assert means is not None
            self._shifts = language_shifts(means)

    def __call__(self, states: HiddenStates) -> tuple[HiddenStates, Mixture | None]:
        """Returns noisy states, and what they are mixed of; draws anew at every call."""
        layers = list(states.layers)
        device, rows = states.mask.device, len(states.mask)
        if self._shifts is not None:
            shifts = self._shifts.to(device)
            draws = torch.randn(rows, len(shifts), device=device)
            scale = self.language_noise / len(shifts) ** 0.5
            moved = scale * torch.einsum("bn,nke->bke", draws, shifts)
            for place, layer in enumerate(self.layers):
                state = layers[layer]
                layers[layer] = (state.float() + moved[:, place, None]).to(state.dtype)
        if self._std is not None:
            std = self.state_noise * self._std.to(device)
            for place, layer in enumerate(self.layers):
                state = layers[layer]
                noise = std[place] * torch.randn(state.shape, device=device)
                layers[layer] = (state.float() + noise).to(state.dtype)
        mixture = None
        if self.mixup and rows > 1:
            beta = torch.distributions.Beta(self.mixup, self.mixup).sample().item()
            mixture = Mixture(max(beta, 1 - beta), torch.randperm(rows).to(device))
            layers = _mixed(layers, states.mask, mixture)
        return HiddenStates(layers, states.mask), mixture


def language_shifts(means: LanguageMeans) -> Float[Tensor, "n K E"]:
    """Returns μ_k − μ_en of the languages besides English."""
    assert means.english is not None
    others = [mean for mean in means.by_code.values() if mean is not means.english]
    return torch.stack([mean.mean - means.english.mean for mean in others])


def _mixed(layers: list[Tensor], mask: Tensor, mixture: Mixture) -> list[Tensor]:
    both = (mask & mask[mixture.order])[..., None]
    weight = mixture.weight
    return [
        layer
        if layer.is_meta
        else torch.where(both, weight * layer + (1 - weight) * layer[mixture.order], layer)
        for layer in layers
    ]


@contextmanager
def encoder_dropout(model: nn.Module, noise: StateNoise | None) -> Iterator[None]:
    """Puts a frozen encoder into train mode for a while, if the noise has its dropout."""
    if noise is None or not noise.encoder_dropout:
        yield
        return
    model.train()
    try:
        yield
    finally:
        model.eval()


def has_dropout(model: nn.Module) -> bool:
    """Returns whether an encoder computes anything else in train mode."""
    config = getattr(model, "config", None)
    settings = (getattr(config, name, 0) for name in _CONFIG_DROPOUT)
    rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    return any(rate and rate > 0 for rate in (*rates, *settings))
