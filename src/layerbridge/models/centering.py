"""Centering: the states of every language moved to where those of English are.

    center    h' = h + c (μ_en − μ_k)              language k, each layer on its own
              h' = h + c B Bᵀ (μ_en − μ_k)         within the language subspace B (rank=r)
    remove    h' = h − c B Bᵀ (h − μ_en)           any language, none need be known

μ are means over tokens of unlabeled text (Libovický et al. 2020, arXiv 2004.05160); nothing is
trained. B is fitted on the means of all known languages (``language_subspace``). English stays
where it is, in ``remove`` on average.

The true shift d = μ_en − μ_k is known up to the errors v of both means. c = strength · s with
s = max(0, 1 − v/‖d̂‖²), the shrinkage with the least expected error (James and Stein 1961, positive
part), keeps the noise of a mean of few texts out of the states; ``shrink=False`` sets s = 1.

Legend: K layers with means, B batch, S encoder tokens, E encoder width, r rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import CheckpointError, ConfigError, DataError, LayerBridgeError
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.language_means import FILE, LanguageMeans, text_means
from layerbridge.models.language_subspace import language_subspace

METHODS = ("center", "remove")


@dataclass(frozen=True)
class CenteringSettings:
    """How states are moved.

    Attributes:
        method: ``"center"`` or ``"remove"``.
        layers: numbers of the layers to move, 1 to L or -L to -1; None for all that the fusion
            reads.
        strength: part of the way, 0 to 1.
        shrink: less where the means are of little text.
        rank: of the language subspace, below the number of known languages; None for no
            subspace, which only ``"center"`` can do without.

    Raises:
        ConfigError: a setting is out of range.
    """

    method: str = "center"
    layers: tuple[int, ...] | None = None
    strength: float = 1.0
    shrink: bool = True
    rank: int | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"unknown centering method {self.method!r}", allowed=METHODS)
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"strength={self.strength} is not valid", allowed="0 to 1")
        if self.rank is not None and self.rank < 1:
            raise ConfigError(f"rank={self.rank} is not valid", allowed="1 or more")
        if self.method == "remove" and self.rank is None:
            raise ConfigError(
                "the method 'remove' needs the rank of the language subspace", hint="--rank 2"
            )

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> CenteringSettings:
        """Returns the settings that a file holds."""
        layers = settings.get("layers")
        return cls(**{**settings, "layers": None if layers is None else tuple(layers)})

    def recorded(self) -> dict[str, Any]:
        """Returns those that are not the default, for a file."""
        default = asdict(CenteringSettings())
        found = {name: value for name, value in asdict(self).items() if value != default[name]}
        return {n: list(v) if isinstance(v, tuple) else v for n, v in found.items()}


class Centering:
    """Moves hidden states by language.

    Args:
        means: of English and others.
        num_layers: L of the encoder.
        settings: None takes those in ``means``.

    Raises:
        ConfigError: a layer that has no mean, or too few languages for a subspace.
    """

    def __init__(
        self, means: LanguageMeans, num_layers: int, settings: CenteringSettings | None = None
    ) -> None:
        self.settings = settings or CenteringSettings.of(means.settings)
        self.means = means.with_settings(self.settings.recorded())
        numbers = self.settings.layers
        self._places = list(range(len(means.layers)))  # of the moved layers, among the K
        if numbers is not None:
            indices = [number - 1 if number > 0 else num_layers + number for number in numbers]
            for number, index in zip(numbers, indices, strict=True):
                if number == 0 or index not in means.layers:
                    known = ", ".join(str(layer + 1) for layer in means.layers)
                    raise ConfigError(
                        f"layer {number} cannot be moved: the fusion does not read it",
                        allowed=known,
                    )
            self._places = sorted({means.layers.index(index) for index in indices})
        if self.settings.method == "remove" and means.english is None:
            raise ConfigError(
                "centering needs the mean of English", hint="layerbridge center RUN --language en"
            )
        rank, languages = self.settings.rank, len(means.by_code)
        if rank is not None and rank >= languages:
            raise ConfigError(
                f"a language subspace of rank {rank} needs the means of {rank + 1} languages, and "
                f"{languages} are known",
                hint="add languages, or a lower --rank",
            )

    @classmethod
    def load(
        cls, folder: Path, layers: Sequence[int], num_layers: int, width: int, encoder: str | None
    ) -> Centering | None:
        """Returns the centering of a run's folder; None if it has no language means.

        Args:
            folder: of the run.
            layers: that its fusion reads.
            num_layers: L of its encoder.
            width: E.
            encoder: fingerprint of its weights.

        Raises:
            CheckpointError: the file is damaged, or of another encoder or other layers.
        """
        file = folder / FILE
        if not file.is_file():
            return None
        means = LanguageMeans.read(file)
        means.check(layers, width, encoder, str(folder))
        try:
            return cls(means, num_layers)
        except (TypeError, LayerBridgeError) as error:
            raise CheckpointError(f"{str(file)!r} has an invalid setting: {error}") from None

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages with a mean."""
        return tuple(self.means.by_code)

    @property
    def knows_others(self) -> bool:
        """Whether any state can be moved: English alone stays where it is."""
        return self.means.english is not None and len(self.means.by_code) > 1

    def code(self, language: str) -> str:
        """Returns the known code of a language.

        Raises:
            DataError: it has no mean.
        """
        code = self.means.code(language)
        if code is None:
            raise DataError(
                f"the bridge knows no mean of the language {language!r}",
                allowed=self.languages,
                hint=f"layerbridge center RUN --language {language} --text FILE",
            )
        return code

    def shrinkage(self, code: str) -> Float[Tensor, " K"]:
        """Returns s of each layer: 1 for a mean without error, 0 for one that is all noise."""
        mean, english = self.means.by_code[code], self.means.english
        if english is None or mean is english:
            return torch.zeros(len(self.means.layers))
        if not self.settings.shrink:
            return torch.ones(len(self.means.layers))
        square = (english.mean - mean.mean).square().sum(1)
        error = english.error + mean.error
        return torch.where(square > 0, 1 - error / square, 0.0).clamp_min(0.0)

    @cached_property
    def shifts(self) -> dict[str, Float[Tensor, "K E"]]:
        """The shift of each language; zero in layers that stay."""
        found = {}
        for code, mean in self.means.by_code.items():
            shift = torch.zeros_like(mean.mean)
            if self.means.english is not None:
                way = self.means.english.mean - mean.mean
                scale = self.settings.strength * self.shrinkage(code)
                for place in self._places:
                    moved = way[place]
                    if self.settings.rank is not None:
                        basis = self._bases[place]
                        moved = basis @ (basis.T @ moved)
                    shift[place] = scale[place] * moved
            found[code] = shift
        return found

    @cached_property
    def _bases(self) -> dict[int, Float[Tensor, "E r"]]:
        assert self.settings.rank is not None
        stacked = torch.stack([mean.mean for mean in self.means.by_code.values()])
        return {
            place: language_subspace(stacked[:, place], self.settings.rank).float()
            for place in self._places
        }

    def __call__(
        self, states: HiddenStates, language: str | Sequence[str | None] | None = None
    ) -> HiddenStates:
        """Returns moved states, in their own dtype.

        Args:
            states: of B texts, with the K layers.
            language: the code of all texts, or of each; None for the nearest mean.

        Raises:
            DataError: a language has no mean.
        """
        if self.settings.method == "remove":
            return self._removed(states)
        if not self.knows_others and language is None:
            return states
        rows = len(states.mask)
        given = [language] * rows if language is None or isinstance(language, str) else language
        assert len(given) == rows, (len(given), rows)
        codes = [None if each is None else self.code(each) for each in given]
        if None in codes:
            told = self.nearest(states)
            codes = [near if code is None else code for code, near in zip(codes, told, strict=True)]
        return self.shifted(states, [str(code) for code in codes])

    def shifted(self, states: HiddenStates, codes: Sequence[str | None]) -> HiddenStates:
        """Returns states moved by the shifts of known codes; None stays."""
        shifts = [None if code is None else self.shifts[code] for code in codes]
        if not any(shift is not None and shift.any() for shift in shifts):
            return states
        zero = torch.zeros_like(next(iter(self.shifts.values())))
        rows = torch.stack([zero if shift is None else shift for shift in shifts])
        rows = rows.to(states.mask.device)  # [B, K, E]
        layers = list(states.layers)
        for place in self._places:
            index = self.means.layers[place]
            layer = layers[index]
            layers[index] = (layer.float() + rows[:, place, None]).to(layer.dtype)
        return HiddenStates(layers, states.mask)

    def _removed(self, states: HiddenStates) -> HiddenStates:
        assert self.means.english is not None
        layers = list(states.layers)
        for place in self._places:
            index = self.means.layers[place]
            layer = layers[index]
            basis = self._bases[place].to(layer.device)
            apart = layer.float() - self.means.english.mean[place].to(layer.device)
            removed = self.settings.strength * (apart @ basis) @ basis.T
            layers[index] = (layer.float() - removed).to(layer.dtype)
        return HiddenStates(layers, states.mask)

    def nearest(self, states: HiddenStates) -> list[str]:
        """Returns the language of each text by its nearest mean."""
        return self.nearest_of(text_means(states, self.means.layers))

    def nearest_of(
        self, means: Float[Tensor, "B K E"], replaced: Mapping[str, Tensor] | None = None
    ) -> list[str]:
        """Returns the language whose mean is nearest to the mean of each text.

        Distances are Σ_le ((m − μ_k)/σ)² with σ, the deviation of English states: dimensions of
        large variance and layers of large states do not decide alone.

        Args:
            means: of each text.
            replaced: other means for some languages [B, K, E], such as those without each text.
        """
        codes = list(self.means.by_code)
        scale = (self.means.english or self.means.by_code[codes[0]]).std
        # A nearly constant dimension must not decide.
        scale = torch.maximum(scale, 0.01 * scale.mean(1, keepdim=True)).to(means)
        known = {code: self.means.by_code[code].mean for code in codes} | dict(replaced or {})
        distances = [
            ((means - known[code].to(means)) / scale).square().sum((1, 2)) for code in codes
        ]
        return [codes[place] for place in torch.stack(distances, 1).argmin(1).tolist()]


def centered(
    centering: Centering | None, states: HiddenStates, language: str | Sequence[str | None] | None
) -> HiddenStates:
    """Returns states moved by a bridge's centering, or as they are if it has none.

    Raises:
        DataError: a language is given, and it has no mean or there is no centering.
    """
    if centering is not None:
        return centering(states, language)
    if language is not None:
        raise DataError(
            "the bridge has no language means, so a language changes nothing",
            hint="leave it out, or layerbridge center RUN --language CODE --text FILE",
        )
    return states
