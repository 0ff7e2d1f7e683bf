"""The start of the projection: at the scale of the language model's embeddings, or aligned to them.

``align`` fits a ridge regression on English text, in closed form, from the standardized fused state
of each encoder token to the mean of the input embeddings of the LM tokens that share its
characters. A soft prompt then starts near the words it stands for, not at random vectors that the
language model cannot read.

Legend: N tokens, E encoder width, D LM width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import ConfigError
from layerbridge.models.encoder import Encoder
from layerbridge.models.eval_mode import eval_mode
from layerbridge.models.fusion import Fusion
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.projection import Projection

# Words of the LM's vocabulary that are read as well: those of the lowest ids, the most frequent.
VOCABULARY_WORDS = 3000
BATCH = 128

# Marks of a token that begins a word: byte-level BPE, and SentencePiece.
WORD_STARTS = ("Ġ", "▁")


@dataclass(frozen=True)
class Alignment:
    """The quality of the fit.

    Attributes:
        tokens: N, the number of encoder tokens.
        explained: share of the embeddings' variance that is explained, 0 to 1.
    """

    tokens: int
    explained: float


@torch.no_grad()
def align(
    encoder: Encoder,
    fusion: Fusion,
    projection: Projection,
    language_model: LanguageModel,
    texts: Sequence[str] = (),
    *,
    penalty: float = 0.1,
    words: int = VOCABULARY_WORDS,
) -> Alignment:
    """Standardizes the projection's input and sets its weight and bias to the ridge solution.

    Args:
        encoder: with a fast tokenizer, for the characters of each token.
        fusion: before training.
        projection: overwritten.
        language_model: with a fast tokenizer.
        texts: English texts like those of training.
        penalty: λ, relative to N times the mean variance of the standardized states.
        words: number of words of the LM's vocabulary that are read as well.

    Raises:
        ConfigError: a tokenizer is not a fast one, or there is nothing to fit.
    """
    for name, tokenizer in (("encoder", encoder.tokenizer), ("LM", language_model.tokenizer)):
        if not tokenizer.is_fast:
            raise ConfigError(
                f"projection_start 'aligned' needs a fast tokenizer, and the {name}'s is not",
                allowed="projection_start random or scaled",
            )
    corpus = _corpus(language_model, texts, words)
    with eval_mode(fusion):
        pairs = list(_pairs(encoder, fusion, language_model, corpus))
    if not pairs:
        raise ConfigError("projection_start 'aligned' has no text to align")
    x, y = (torch.cat(side) for side in zip(*pairs, strict=True))
    projection.standardize(x)
    x = (x - projection.mean.cpu()) / projection.std.cpu()
    weight, bias, explained = ridge(x.double(), y.double(), penalty)
    projection.linear.weight.copy_(weight)
    projection.linear.bias.copy_(bias)
    return Alignment(len(x), explained)


@torch.no_grad()
def rescale(
    encoder: Encoder,
    fusion: Fusion,
    projection: Projection,
    language_model: LanguageModel,
    texts: Sequence[str] = (),
    *,
    words: int = VOCABULARY_WORDS,
) -> None:
    """Standardizes the projection's input and scales its random weights to the LM's embeddings.

    Args: as in ``align``; the tokenizers may be slow ones.

    Raises:
        ConfigError: there is no text.
    """
    corpus = _corpus(language_model, texts, words)
    with eval_mode(fusion):
        states = [fusion(layers)[layers.mask].cpu() for _, layers in _read(encoder, fusion, corpus)]
    if not states:
        raise ConfigError("projection_start 'scaled' has no text to measure")
    projection.standardize(torch.cat(states))
    projection.rescale(language_model.embedding_rms())


def ridge(
    x: Float[Tensor, "N E"], y: Float[Tensor, "N D"], penalty: float
) -> tuple[Float[Tensor, "D E"], Float[Tensor, " D"], float]:
    """Solves argmin ‖x Wᵀ + b − y‖² + λ‖W‖², with λ = penalty · N · (mean variance of x).

    Returns:
        W, b, and the share of y's variance that is explained.
    """
    x_mean, y_mean = x.mean(0), y.mean(0)
    xc, yc = x - x_mean, y - y_mean
    gram = xc.T @ xc
    gram.diagonal().add_(penalty * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, xc.T @ yc).T
    residual = (yc - xc @ weight.T).square().sum()
    total = yc.square().sum().clamp_min(torch.finfo(yc.dtype).tiny)
    return weight, y_mean - weight @ x_mean, (1 - residual / total).item()


def _pairs(
    encoder: Encoder, fusion: Fusion, language_model: LanguageModel, texts: Sequence[str]
) -> Iterator[tuple[Float[Tensor, "n E"], Float[Tensor, "n D"]]]:
    """Yields the fused states of each text's tokens, and the mean embedding for each."""
    for batch, layers in _read(encoder, fusion, texts):
        fused = fusion(layers)
        for row, text in enumerate(batch):
            # LM tokens within a sentence include the space before them.
            spaced = language_model.tokenizer(
                " " + text, add_special_tokens=False, return_offsets_mapping=True
            )
            spans = [(first - 1, last - 1) for first, last in spaced["offset_mapping"]]
            embeds = None
            aligned, means = [], []
            for position, (first, last) in enumerate(encoder.spans(text)):
                shared = [i for i, (a, b) in enumerate(spans) if max(a, first) < min(b, last)]
                if first == last or not shared:
                    continue
                if embeds is None:
                    lm_ids = torch.tensor(spaced["input_ids"], device=language_model.device)
                    embeds = language_model.embed(lm_ids).float()
                aligned.append(position)
                means.append(embeds[shared].mean(0))
            if aligned:
                yield fused[row, aligned].cpu(), torch.stack(means).cpu()


def _read(
    encoder: Encoder, fusion: Fusion, texts: Sequence[str]
) -> Iterator[tuple[Sequence[str], HiddenStates]]:
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        yield batch, encoder.encode(batch, layers=fusion.required_layers)


def _corpus(language_model: LanguageModel, texts: Sequence[str], words: int) -> list[str]:
    return [*dict.fromkeys(texts), *_common_words(language_model, words)]


def _common_words(language_model: LanguageModel, count: int) -> list[str]:
    """Returns the first whole ASCII words of the LM's vocabulary, in the order of their ids."""
    tokenizer = language_model.tokenizer
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    begun = (token[1:] for token in tokens if token and token.startswith(WORD_STARTS))
    words = (word for word in begun if len(word) > 2 and word.isascii() and word.isalpha())
    return list(dict.fromkeys(words))[:count]
