"""Language means: the mean state of each layer and language, over tokens of unlabeled text.

    μ_kl = Σ_i s_ikl / Σ_i n_i      s_i: sum over the n_i tokens of text i

Legend: k language, l layer, K layers that a fusion reads, B batch, S tokens, T texts, E encoder
width.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from layerbridge.errors import CheckpointError, DataError
from layerbridge.models.checkpoint import LANGUAGE_MEANS
from layerbridge.models.encoder import Encoder
from layerbridge.models.finite import STATES, check_rows, naming
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.length_grouping import by_length
from layerbridge.models.tensor_file import read_tensors, write_tensors
from layerbridge.progress import Meter, say
from layerbridge.tasks.languages import own_code

FILE = LANGUAGE_MEANS
ENGLISH = "en"

# Texts that are read of one language: the mean of a few hundred hardly moves any more.
MOST_TEXTS = 2000
BATCH = 64

_DAMAGED = "layerbridge center RUN --language en --text FILE makes it again"


@dataclass(frozen=True)
class TextMeans:
    """What the texts of one language leave behind, in float64 on the CPU.

    Attributes:
        sums: sum of the states over the tokens of each text.
        counts: tokens of each text.
        squares: sum of squares over all tokens.
    """

    sums: Float[Tensor, "T K E"]
    counts: Int[Tensor, " T"]
    squares: Float[Tensor, "K E"]

    @classmethod
    def read(
        cls,
        encoder: Encoder,
        texts: Sequence[str],
        layers: Sequence[int],
        *,
        most: int = MOST_TEXTS,
        what: str = "the means",
        bar: Meter | None = None,
    ) -> TextMeans:
        """Runs the encoder over texts; each distinct one counts once.

        Args:
            encoder: any; its cache is used if it has all texts.
            texts: as the bridge reads them, with their template.
            layers: indices of the K layers.
            most: of more texts, so many are drawn, the same every time. It is said.
            what: the texts are for, for that line.
            bar: is updated after every batch.

        Raises:
            DataError: there are no texts.
            NotFiniteError: names a text whose states are not finite.
        """
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            raise DataError(f"there are no texts for {what}")
        chosen = distinct
        if len(distinct) > most:
            # Not torch's generator, whose next numbers must not depend on this.
            places = sorted(random.Random(0).sample(range(len(distinct)), most))
            chosen = [distinct[place] for place in places]
            say(f"{what}: reads {most} of {len(distinct)} texts, drawn at random")
        shape = (len(chosen), len(layers), encoder.width)
        sums = torch.zeros(shape, dtype=torch.float64)
        counts = torch.zeros(len(chosen), dtype=torch.long)
        squares = torch.zeros(shape[1:], dtype=torch.float64)
        done = 0
        cache = encoder.cache
        if cache is not None and not all(text in cache for text in chosen):
            encoder.cache = None  # else it would keep states that nothing reads again
        try:
            for indices in by_length([len(text) for text in chosen], BATCH):
                batch = [chosen[index] for index in indices]
                states = encoder.encode(batch, layers=layers)
                with naming(batch):
                    check_rows(states.finite_rows(), STATES, encoder.model.dtype)
                mask = states.mask.cpu()[..., None]
                counts[indices] = mask.sum((1, 2))
                for place, layer in enumerate(layers):
                    state = states.layers[layer].cpu().double().masked_fill(~mask, 0.0)
                    sums[indices, place] = state.sum(1)
                    squares[place] += state.square().sum((0, 1))
                done += len(batch)
                if bar is not None:
                    bar.update(done, len(chosen))
        finally:
            encoder.cache = cache
        return cls(sums, counts, squares)

    def without_each(self) -> Float[Tensor, "T K E"]:
        """Returns, for each text, the mean of all others; NaN for a single text."""
        rest = (self.counts.sum() - self.counts).view(-1, 1, 1)
        return (self.sums.sum(0) - self.sums) / rest

    @property
    def of_texts(self) -> Float[Tensor, "T K E"]:
        """The mean of each text."""
        return self.sums / self.counts.view(-1, 1, 1)


@dataclass(frozen=True)
class LanguageMean:
    """The mean of one language, in float32.

    Attributes:
        mean: μ.
        std: deviation of the states from it, in each dimension, over tokens.
        error: estimate of E‖μ̂ − μ‖² in each layer. Tokens of one text are alike, so texts are
            the unit: Σ_i ‖s_i − n_i μ̂‖² / (Σ n_i)² · T/(T−1); infinite for one text.
        texts: T.
        tokens: Σ n_i.
    """

    mean: Float[Tensor, "K E"]
    std: Float[Tensor, "K E"]
    error: Float[Tensor, " K"]
    texts: int
    tokens: int

    @classmethod
    def of(cls, means: TextMeans) -> LanguageMean:
        """Returns the mean of the texts that were read."""
        tokens, texts = int(means.counts.sum()), len(means.counts)
        mean = means.sums.sum(0) / tokens
        variance = (means.squares / tokens - mean.square()).clamp_min(0)
        apart = means.sums - means.counts.view(-1, 1, 1) * mean
        factor = texts / (texts - 1) if texts > 1 else torch.inf
        error = apart.square().sum((0, 2)) / tokens**2
        error = error * factor if texts > 1 else torch.full_like(error, torch.inf)
        return cls(mean.float(), variance.sqrt().float(), error.float(), texts, tokens)


@dataclass(frozen=True)
class LanguageMeans:
    """The means of several languages of one encoder.

    Attributes:
        layers: indices of the K layers.
        by_code: language code → mean.
        encoder: fingerprint of the encoder's weights; None if unknown.
        settings: of their use, as JSON; not interpreted here.
    """

    layers: tuple[int, ...]
    by_code: Mapping[str, LanguageMean] = field(default_factory=dict)
    encoder: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def code(self, language: str) -> str | None:
        """Returns the known code of a language, by whatever code it is given; None if unknown."""
        code = own_code(language, self.by_code)
        return code if code in self.by_code else None

    def with_language(self, language: str, mean: LanguageMean) -> LanguageMeans:
        """Returns these and another language, which replaces a known one."""
        code = self.code(language) or own_code(language, (ENGLISH,))
        return LanguageMeans(self.layers, {**self.by_code, code: mean}, self.encoder, self.settings)

    def with_settings(self, settings: Mapping[str, Any]) -> LanguageMeans:
        """Returns these with other settings."""
        return LanguageMeans(self.layers, self.by_code, self.encoder, settings)

    @property
    def english(self) -> LanguageMean | None:
        """The mean of English, the language of training."""
        code = self.code(ENGLISH)
        return None if code is None else self.by_code[code]

    def write(self, folder: Path) -> Path:
        """Writes ``language-means.safetensors`` into a folder and returns its path.

        Raises:
            CheckpointError: it cannot be written.
        """
        tensors: dict[str, Tensor] = {"layers": torch.tensor(self.layers)}
        for code, mean in self.by_code.items():
            tensors[f"{code}.mean"] = mean.mean
            tensors[f"{code}.std"] = mean.std
            tensors[f"{code}.error"] = mean.error
            tensors[f"{code}.counts"] = torch.tensor([mean.texts, mean.tokens])
        facts: dict[str, Any] = {"encoder": self.encoder, "settings": dict(self.settings)}
        facts["languages"] = list(self.by_code)
        write_tensors(folder / FILE, tensors, facts)
        return folder / FILE

    @classmethod
    def read(cls, path: Path) -> LanguageMeans:
        """Reads the file, or the one in a folder.

        Raises:
            CheckpointError: it is missing, damaged, or not of this kind.
        """
        path = path / FILE if path.is_dir() else path
        tensors, facts = read_tensors(path, hint=_DAMAGED)
        try:
            layers = tuple(tensors["layers"].tolist())
            by_code = {
                code: LanguageMean(
                    tensors[f"{code}.mean"],
                    tensors[f"{code}.std"],
                    tensors[f"{code}.error"],
                    *tensors[f"{code}.counts"].tolist(),
                )
                for code in facts["languages"]
            }
            shapes = {tuple(each.shape) for mean in by_code.values() for each in
                      (mean.mean, mean.std)}  # fmt: skip
            fits = len(shapes) <= 1 and all(shape[0] == len(layers) for shape in shapes)
            errors = {tuple(mean.error.shape) for mean in by_code.values()}
            finite = all(mean.mean.isfinite().all() for mean in by_code.values())
            if not (fits and errors <= {(len(layers),)} and finite):
                raise ValueError
        except (KeyError, TypeError, ValueError, IndexError):
            raise CheckpointError(
                f"{str(path)!r} has no language means, or damaged ones", hint=_DAMAGED
            ) from None
        return cls(layers, by_code, facts.get("encoder"), facts.get("settings", {}))

    def check(self, layers: Sequence[int], width: int, encoder: str | None, where: str) -> None:
        """Checks that these are means of the states that a bridge reads.

        Raises:
            CheckpointError: they are of another encoder or of other layers.
        """
        if self.encoder is not None and encoder is not None and self.encoder != encoder:
            raise CheckpointError(
                f"the language means in {where} are of another encoder: its weights are "
                f"{self.encoder[:12]}",
                allowed=f"weights {encoder[:12]}",
                hint=f"remove {FILE}; {_DAMAGED}",
            )
        widths = {mean.mean.shape[1] for mean in self.by_code.values()}
        if self.layers != tuple(layers) or not widths <= {width}:
            raise CheckpointError(
                f"the language means in {where} are of other layers than those that the fusion "
                "reads",
                hint=f"remove {FILE}; {_DAMAGED}",
            )


def text_means(states: HiddenStates, layers: Sequence[int]) -> Float[Tensor, "B K E"]:
    """Returns the mean of each text over its tokens, in float32."""
    mask = states.mask[..., None]
    sums = [states.layers[layer].float().masked_fill(~mask, 0.0).sum(1) for layer in layers]
    return torch.stack(sums, 1) / mask.sum(1, keepdim=True).clamp_min(1)
