"""The start of the projection: at the scale of the language model's embeddings, or aligned to them.

``align`` fits a ridge regression on English text, in closed form, from the standardized fused state
of each encoder token to the mean of the input embeddings of the LM tokens that share its
characters. A soft prompt then starts near the words it stands for, not at random vectors that the
language model cannot read.

Texts are read batch by batch, and only sums are kept: memory does not grow with their number.

Legend: N tokens, n tokens of a batch, E encoder width, D LM width.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import ConfigError
from layerbridge.models.encoder import Encoder
from layerbridge.models.eval_mode import eval_mode
from layerbridge.models.finite import STATES, check_rows, naming
from layerbridge.models.fusion import Fusion
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.moments import Moments, ridge
from layerbridge.models.projection import Projection
from layerbridge.models.projection.mlp import MlpProjection
from layerbridge.progress import say

# Words of the LM's vocabulary that are read as well: those of the lowest ids, the most frequent.
VOCABULARY_WORDS = 3000
BATCH = 128
# Encoder tokens of the texts that are read: some hundred for each of the E coefficients of a fit.
TOKENS = 100_000

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
        texts: English texts like those of training. Of more than ``TOKENS`` encoder tokens, a
            random sample is read, the same every time.
        penalty: λ, relative to N times the mean variance of the standardized states.
        words: number of words of the LM's vocabulary that are read as well.

    Raises:
        ConfigError: a tokenizer is not a fast one, or there is nothing to fit.
        NotFiniteError: names a text whose states are not finite.
    """
    for name, tokenizer in (("encoder", encoder.tokenizer), ("LM", language_model.tokenizer)):
        if not tokenizer.is_fast:
            raise ConfigError(
                f"projection_start 'aligned' needs a fast tokenizer, and the {name}'s is not",
                allowed="projection_start random or scaled",
            )
    corpus = _corpus(encoder, language_model, texts, words)
    with eval_mode(fusion):
        moments = _sum(_pairs(encoder, fusion, language_model, corpus))
    if moments is None:
        raise ConfigError("projection_start 'aligned' has no text to align")
    projection.standardize(moments.x_mean, moments.x_std)
    if type(projection) is Projection:
        moments = moments.standardized(projection.mean, projection.std)
    else:  # its features can be computed only now
        with eval_mode(fusion):
            pairs = _pairs(encoder, fusion, language_model, corpus)
            moments = _some(_sum((projection.features(x), y) for x, y in pairs))
    weight, bias, explained = ridge(moments, penalty)
    projection.linear.weight.copy_(weight)
    projection.linear.bias.copy_(bias)
    return Alignment(moments.count, explained)


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
        NotFiniteError: names a text whose states are not finite.
    """
    corpus = _corpus(encoder, language_model, texts, words)
    with eval_mode(fusion):
        fused = (fusion(layers)[layers.mask] for _, layers in _read(encoder, fusion, corpus))
        moments = _sum((states, states.new_empty(len(states), 0)) for states in fused)
    if moments is None:
        raise ConfigError("projection_start 'scaled' has no text to measure")
    projection.standardize(moments.x_mean, moments.x_std)
    features = 1.0
    if isinstance(projection, MlpProjection):
        with eval_mode(fusion):
            found = (projection.features(fusion(layers)[layers.mask]) for _, layers in
                     _read(encoder, fusion, corpus))  # fmt: skip
            of_features = _some(
                _sum((states, states.new_empty(len(states), 0)) for states in found)
            )
        square = of_features.x_mean.square() + of_features.x_std.square()
        features = square.mean().sqrt().item()
    projection.rescale(language_model.embedding_rms(), features)


def _some(moments: Moments | None) -> Moments:
    assert moments is not None, "the same texts had tokens before"
    return moments


def _sum(pairs: Iterable[tuple[Tensor, Tensor]]) -> Moments | None:
    """Returns the moments of all batches; None if there are none."""
    moments = (Moments.of(x, y) for x, y in pairs)
    return reduce(add, moments, next(moments, None))


def _pairs(
    encoder: Encoder, fusion: Fusion, language_model: LanguageModel, texts: Sequence[str]
) -> Iterator[tuple[Float[Tensor, "n E"], Float[Tensor, "n D"]]]:
    """Yields, for each batch, the fused states of its tokens, and the mean embedding for each."""
    for batch, layers in _read(encoder, fusion, texts):
        fused = fusion(layers)
        states, embeddings = [], []
        for row, text in enumerate(batch):
            # LM tokens within a sentence include the space before them.
            spaced = language_model.tokenizer(
                " " + text, add_special_tokens=False, return_offsets_mapping=True
            )
            # Without tokens that were added to the tokenizer alone, which the LM never reads here.
            known = [
                (token, first - 1, last - 1)
                for token, (first, last) in zip(
                    spaced["input_ids"], spaced["offset_mapping"], strict=True
                )
                if token < language_model.known_ids
            ]
            embeds = None
            aligned, means = [], []
            for position, (first, last) in enumerate(encoder.spans(text)):
                shared = [i for i, (_, a, b) in enumerate(known) if max(a, first) < min(b, last)]
                if first == last or not shared:
                    continue
                if embeds is None:
                    lm_ids = [token for token, *_ in known]
                    embeds = language_model.embed(
                        torch.tensor(lm_ids, device=language_model.device)
                    ).float()
                aligned.append(position)
                means.append(embeds[shared].mean(0))
            if aligned:
                states.append(fused[row, aligned])
                embeddings.append(torch.stack(means))
        if states:
            yield torch.cat(states), torch.cat(embeddings)


def _read(
    encoder: Encoder, fusion: Fusion, texts: Sequence[str]
) -> Iterator[tuple[Sequence[str], HiddenStates]]:
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        states = encoder.encode(batch, layers=fusion.required_layers)
        with naming(batch):
            check_rows(states.finite_rows(), STATES, encoder.model.dtype)
        yield batch, states


def _corpus(
    encoder: Encoder, language_model: LanguageModel, texts: Sequence[str], words: int
) -> list[str]:
    return [*_sample(encoder, list(dict.fromkeys(texts))), *_common_words(language_model, words)]


def _sample(encoder: Encoder, texts: Sequence[str]) -> Sequence[str]:
    """Returns the texts if they have at most ``TOKENS`` tokens, else some of them, in their order.

    Only as many texts are tokenized as it takes to know that.
    """
    order = list(range(len(texts)))
    # Not the generator of training, whose next numbers must not depend on this.
    random.Random(0).shuffle(order)
    total = 0
    for start in range(0, len(order), BATCH):
        lengths = encoder.lengths([texts[index] for index in order[start : start + BATCH]])
        for place, length in enumerate(lengths, start=start):
            total += min(length, encoder.max_text_tokens)
            if total > TOKENS:
                chosen = sorted(order[: max(place, 1)])
                say(
                    f"start of the projection: reads {len(chosen)} of {len(texts)} texts, "
                    f"{TOKENS} tokens drawn at random"
                )
                return [texts[index] for index in chosen]
    return texts


def _common_words(language_model: LanguageModel, count: int) -> list[str]:
    """Returns the first whole ASCII words of the LM's vocabulary, in the order of their ids."""
    tokenizer = language_model.tokenizer
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    begun = (token[1:] for token in tokens if token and token.startswith(WORD_STARTS))
    words = (word for word in begun if len(word) > 2 and word.isascii() and word.isalpha())
    return list(dict.fromkeys(words))[:count]
