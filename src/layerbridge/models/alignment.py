"""Where the projection starts: at the scale of the language model's words, or already near them.

The aligned start is a ridge regression, in closed form and on English alone, from the standardised
fused state of each encoder token to the mean of the language model's input embeddings over the LM
tokens that share its characters. A soft prompt then starts near the words it stands for, instead of
at random vectors that the language model must first be taught to read.

It knows the bridge's rooms, not its training. Legend: N tokens, E encoder width, D LM width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import ConfigError
from layerbridge.models.encoder import Encoder
from layerbridge.models.fusion import Fusion
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.projection import Projection

# How many whole words of the LM's vocabulary are read beside the texts: the lowest ids, which
# byte-pair training found first, so the commonest.
VOCABULARY_WORDS = 3000
BATCH = 128

# How a token says that a word begins with it: byte-level BPE, and sentencepiece.
WORD_STARTS = ("Ġ", "▁")


@dataclass(frozen=True)
class Alignment:
    """What the regression found.

    Attributes:
        tokens: N, how many encoder tokens it was fitted on.
        explained: share of the embeddings' variance it explains on them, 0 to 1.
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
    """Standardises the projection's input and sets its weight and bias to the ridge solution.

    Args:
        encoder: with a fast tokenizer, which knows which characters a token covers.
        fusion: as it stands before training.
        projection: overwritten.
        language_model: the same for its tokenizer.
        texts: English texts like those to come, the training texts say.
        penalty: λ in units of the standardised states' mean variance times N.
        words: how many common words of the LM's vocabulary to read as well.

    Raises:
        ConfigError: a tokenizer is not a fast one, or there is nothing to fit on.
    """
    for what, tokenizer in (("encoder", encoder.tokenizer), ("LM", language_model.tokenizer)):
        if not tokenizer.is_fast:
            raise ConfigError(
                f"projection_start 'aligned' needs a fast tokenizer, and the {what}'s is not",
                allowed="projection_start random or scaled",
            )
    corpus = _corpus(language_model, texts, words)
    with _evaluating(fusion):
        pairs = list(_pairs(encoder, fusion, language_model, corpus))
    if not pairs:
        raise ConfigError("projection_start 'aligned' found no text to align on")
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
    """Standardises the projection's input and scales its random weights to the LM's embeddings.

    Args: as for ``align``; the tokenizers may be slow ones.

    Raises:
        ConfigError: there is no text.
    """
    corpus = _corpus(language_model, texts, words)
    with _evaluating(fusion):
        states = [fusion(layers)[layers.mask].cpu() for _, layers in _read(encoder, fusion, corpus)]
    if not states:
        raise ConfigError("projection_start 'scaled' found no text to take a scale from")
    projection.standardize(torch.cat(states))
    projection.rescale(language_model.embedding_rms())


def ridge(
    x: Float[Tensor, "N E"], y: Float[Tensor, "N D"], penalty: float
) -> tuple[Float[Tensor, "D E"], Float[Tensor, " D"], float]:
    """argmin ‖x Wᵀ + b − y‖² + λ‖W‖², with λ = penalty · N · (mean variance of x).

    Returns:
        W, b and the share of y's variance that is explained.
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
    """Fused states of the tokens of each batch, and the mean embedding each should become."""
    for batch, layers in _read(encoder, fusion, texts):
        fused = fusion(layers)
        for row, text in enumerate(batch):
            # LM tokens in the middle of a sentence carry the space before them.
            spaced = language_model.tokenizer(
                " " + text, add_special_tokens=False, return_offsets_mapping=True
            )
            spans = [(first - 1, last - 1) for first, last in spaced["offset_mapping"]]
            own = encoder.tokenizer(
                text,
                truncation=True,
                max_length=encoder.max_text_tokens,
                return_offsets_mapping=True,
            )["offset_mapping"]
            embeds = None
            chosen, means = [], []
            for position, (first, last) in enumerate(own):
                shared = [i for i, (a, b) in enumerate(spans) if max(a, first) < min(b, last)]
                if first == last or not shared:
                    continue
                if embeds is None:
                    lm_ids = torch.tensor(spaced["input_ids"], device=language_model.device)
                    embeds = language_model.embed(lm_ids).float()
                chosen.append(position)
                means.append(embeds[shared].mean(0))
            if chosen:
                yield fused[row, chosen].cpu(), torch.stack(means).cpu()


def _read(
    encoder: Encoder, fusion: Fusion, texts: Sequence[str]
) -> Iterator[tuple[Sequence[str], HiddenStates]]:
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        yield batch, encoder.encode(batch, layers=fusion.required_layers)


@contextmanager
def _evaluating(fusion: Fusion) -> Iterator[None]:
    """Without the fusion's dropout for a while."""
    training = fusion.training
    fusion.eval()
    try:
        yield
    finally:
        fusion.train(training)


def _corpus(language_model: LanguageModel, texts: Sequence[str], words: int) -> list[str]:
    return [*dict.fromkeys(texts), *_common_words(language_model, words)]


def _common_words(language_model: LanguageModel, count: int) -> list[str]:
    """Whole ASCII words of the LM's vocabulary, in the order of their ids."""
    words: dict[str, None] = {}
    tokenizer = language_model.tokenizer
    for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer))):
        if len(words) >= count:
            break
        word = (token or "")[1:]
        begins = (token or "").startswith(WORD_STARTS)
        if begins and len(word) > 2 and word.isascii() and word.isalpha():
            words[word] = None
    return list(words)
