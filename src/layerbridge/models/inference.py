"""Answering: str → str. What a person calls on a bridge, batched, with no tensor in sight.

A mixin of ``LayerBridge``; it knows the bridge by the few methods it asks for below, and nothing
of tasks, files or commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from layerbridge.errors import DataError
from layerbridge.models.length_grouping import by_length

if TYPE_CHECKING:
    from layerbridge.models.config import BridgeConfig
    from layerbridge.models.encoder import Encoder
    from layerbridge.models.fusion import Fusion
    from layerbridge.models.hidden_states import HiddenStates
    from layerbridge.models.language_model import LanguageModel

NORMALIZATIONS = ("sum", "mean")

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Classification:
    """One text's answer among options.

    Attributes:
        choice: the option with the highest score.
        scores: log-probability of each option (nats; EOS included), by option.
        probabilities: the scores' softmax over the options.
    """

    choice: str
    scores: dict[str, float]
    probabilities: dict[str, float]


@dataclass(frozen=True)
class LayerWeights:
    """Where a text's tokens drew on the encoder.

    Attributes:
        tokens: the encoder's tokens, specials included.
        weights: [tokens, layers]; each row sums to 1. The lowest layer comes first.
        lowest: number of the lowest layer: 1, or 0 where the embeddings' output is mixed as well.
    """

    tokens: list[str]
    weights: Tensor
    first_layer: int = 1


class Answering:
    """``classify``, ``generate_text`` and ``layer_weights`` for a bridge."""

    if TYPE_CHECKING:
        config: BridgeConfig
        encoder: Encoder
        fusion: Fusion
        language_model: LanguageModel

        def encode(self, texts: Sequence[str]) -> HiddenStates: ...
        def option_scores(
            self, states: HiddenStates, options: Sequence[Sequence[int]], instruction: str | None
        ) -> Tensor: ...
        def generate(self, **arguments: Any) -> Any: ...

    def classify(
        self,
        texts: str | Sequence[str],
        options: Sequence[str] | None = None,
        *,
        instruction: str | None = None,
        normalize: str = "sum",
        batch_size: int = 32,
    ) -> list[Classification]:
        """Ranks the options for each text by how likely the language model is to answer them.

        Args:
            texts: in any language the encoder knows; prompts as in training.
            options: the label words; None takes those the bridge was trained with.
            instruction: English text for the language model; None takes the config's.
            normalize: ``"sum"`` of the tokens' log-probabilities, or their ``"mean"``.
            batch_size: texts at a time, those of about one length; it changes speed and memory,
                not answers.

        Raises:
            DataError: no options, an empty one, or one that is there twice.
        """
        texts = _texts(texts)
        options = self.option_words(options)
        ids = [option_ids(self.language_model, option) for option in options]
        divisors = option_divisors(ids, normalize)

        def answer(batch: list[str]) -> list[Classification]:
            scores = self.option_scores(self.encode(batch), ids, instruction).cpu() / divisors
            return [classification(options, row) for row in scores]

        with _evaluating(self):
            return _in_batches(texts, batch_size, answer)

    def generate_text(
        self,
        texts: str | Sequence[str],
        *,
        max_new_tokens: int = 64,
        instruction: str | None = None,
        batch_size: int = 32,
        **arguments: Any,
    ) -> list[str]:
        """The language model's answer to each text, greedy unless told otherwise.

        Args:
            texts: in any language the encoder knows; prompts as in training.
            max_new_tokens: at most.
            instruction: English text for the language model; None takes the config's.
            batch_size: texts at a time.
            **arguments: as for transformers' ``generate`` (``do_sample``, ``num_beams``, …).
        """
        arguments.setdefault("do_sample", False)

        def answer(batch: list[str]) -> list[str]:
            ids = self.generate(
                hidden_states=self.encode(batch),
                instruction=instruction,
                max_new_tokens=max_new_tokens,
                **arguments,
            )
            decoded = self.language_model.tokenizer.batch_decode(ids, skip_special_tokens=True)
            return [text.strip() for text in decoded]

        with _evaluating(self):
            return _in_batches(_texts(texts), batch_size, answer)

    def layer_weights(
        self, texts: str | Sequence[str], *, batch_size: int = 32
    ) -> list[LayerWeights]:
        """How much of each encoder layer went into each token of each text."""

        def answer(batch: list[str]) -> list[LayerWeights]:
            found: list[LayerWeights] = []
            ids = self.encoder.tokenize(batch)["input_ids"]
            states = self.encode(batch)
            weights = self.fusion.weights(states).float().cpu()
            for row_ids, row_mask, row in zip(ids, states.mask.cpu(), weights, strict=True):
                tokens = self.encoder.tokenizer.convert_ids_to_tokens(row_ids[row_mask])
                found.append(LayerWeights(list(tokens), row[row_mask], self.encoder.first_layer))
            return found

        with _evaluating(self), torch.no_grad():
            return _in_batches(_texts(texts), batch_size, answer)

    def option_words(self, options: Sequence[str] | None) -> list[str]:
        """The options to choose from: the given ones, or those the bridge was trained with.

        Raises:
            DataError: as ``classify``.
        """
        if options is None:
            options = self.config.options
        if not options:
            raise DataError(
                "there are no options to choose from",
                allowed="options=[…], or a bridge trained with label words",
            )
        if isinstance(options, str):
            raise DataError(f"options is one string, {options!r}", allowed="a list of strings")
        for option in options:
            if not option.strip():
                raise DataError("an option is empty", allowed="label words")
            if list(options).count(option) > 1:
                raise DataError(f"the option {option!r} is there twice", allowed="each option once")
        return list(options)


def option_ids(language_model: LanguageModel, option: str) -> list[int]:
    """An option as the language model was trained to answer it: its tokens, then EOS."""
    return [*language_model.token_ids(option), language_model.eos_id]


def option_divisors(ids: Sequence[Sequence[int]], normalize: str) -> Tensor:
    """What the options' summed scores are divided by: 1, or their lengths for ``"mean"``.

    Raises:
        DataError: ``normalize`` is neither ``"sum"`` nor ``"mean"``.
    """
    if normalize not in NORMALIZATIONS:
        raise DataError(f"unknown normalize {normalize!r}", allowed=NORMALIZATIONS)
    return torch.tensor([len(option) if normalize == "mean" else 1 for option in ids])


def classification(options: Sequence[str], scores: Tensor) -> Classification:
    """Scores [O] → the choice; the first of equals wins."""
    probabilities = scores.softmax(0).tolist()
    return Classification(
        choice=options[int(scores.argmax())],
        scores=dict(zip(options, scores.tolist(), strict=True)),
        probabilities=dict(zip(options, probabilities, strict=True)),
    )


def _texts(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _in_batches(
    texts: list[str], size: int, answer: Callable[[list[str]], Sequence[Answer]]
) -> list[Answer]:
    """The texts' answers in their order, worked out in batches of about one length.

    A text may have several answers (``num_return_sequences``), all texts as many.
    """
    found: dict[int, Sequence[Answer]] = {}
    for places in by_length([len(text) for text in texts], size):
        answers = answer([texts[place] for place in places])
        each = len(answers) // len(places)
        for turn, place in enumerate(places):
            found[place] = answers[turn * each : (turn + 1) * each]
    return [one for place in range(len(texts)) for one in found[place]]


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Eval mode for a while: an answer must not depend on a dropout mask."""
    assert isinstance(module, nn.Module)
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
