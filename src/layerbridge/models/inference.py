"""Inference: str → str, in batches of texts of similar length.

A mixin of ``LayerBridge``; it knows nothing about tasks, files or commands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor

from layerbridge.errors import DataError
from layerbridge.models.eval_mode import eval_mode
from layerbridge.models.finite import check_rows, naming
from layerbridge.models.generation import cut_answers_said
from layerbridge.models.length_grouping import by_length
from layerbridge.tasks.labels import check_options

if TYPE_CHECKING:
    from torch import nn

    from layerbridge.models.config import BridgeConfig
    from layerbridge.models.encoder import Encoder
    from layerbridge.models.fusion import Fusion
    from layerbridge.models.hidden_states import HiddenStates
    from layerbridge.models.language_model import LanguageModel

NORMALIZATIONS = ("sum", "mean")
# Of what is usual in training: less is far from it.
FAR = 0.5
# Shown in place of a probability.
FAR_NOTE = "far from training"

# The code of all texts, or of each; None where it is to be told by the nearest mean.
Language = str | Sequence[str | None] | None

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Classification:
    """The answer to one text.

    Attributes:
        choice: the option with the highest score; the first of equals.
        scores: option → its log-probability, EOS included (nats; nats per token with ``"mean"``).
        probabilities: option → the softmax of the scores. They sum to 1, however unlikely all
            options are.
        any_option: the probability that the language model, left to itself, answers with one of
            the options: Σ p(option, EOS | text) over the options, whatever the normalization. It
            is near 1 where the bridge does what it was trained for. A text of another kind, an
            option or an instruction that training lacks leave it to other answers.
        far_from_training: whether ``any_option`` is less than half of its median over the
            validation rows (``config.usual_any_option``); without that median, less than 1/2: any
            other answer is then as likely as all options together. ``probabilities`` are then no
            measure of how sure the answer is.
    """

    choice: str
    scores: dict[str, float]
    probabilities: dict[str, float]
    any_option: float
    far_from_training: bool


@dataclass(frozen=True)
class LayerWeights:
    """The fusion weights of one text.

    Attributes:
        tokens: the S tokens of the encoder, special tokens included.
        weights: α [S, L], the lowest layer first; each row sums to 1.
        first_layer: number of the lowest layer: 1, or 0 with ``embedding_layer``.
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

        def encode(self, texts: Sequence[str], language: Language = None) -> HiddenStates: ...
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
        length_normalization: str = "sum",
        language: Language = None,
        batch_size: int = 32,
    ) -> list[Classification]:
        """Chooses for each text the option that the language model is most likely to answer.

        Args:
            texts: in any language of the encoder; in the same template as in training.
            options: the label words; None takes those of training.
            instruction: English text after the soft prompt; None takes the config's.
            length_normalization: ``"sum"`` of the tokens' log-probabilities, or their ``"mean"``.
            language: code of the texts, or of each, for a bridge with language means; None tells it
                by the nearest mean.
            batch_size: texts per batch; it changes speed and memory, not answers.

        Raises:
            DataError: there are no options, or an empty or duplicate one; unknown normalization;
                a language without a mean.
        """
        options = self.option_words(options)
        ids = [option_ids(self.language_model, option) for option in options]
        divisors = option_divisors(ids, length_normalization)

        def answer(batch: list[str], language: Language) -> list[Classification]:
            states = self.encode(batch, language)
            scores = self.option_scores(states, ids, instruction).cpu()
            usual = self.config.usual_any_option
            return [classification(options, row, divisors, usual) for row in scores]

        return self._in_batches(texts, batch_size, answer, language)

    def generate_text(
        self,
        texts: str | Sequence[str],
        *,
        max_new_tokens: int = 64,
        instruction: str | None = None,
        language: Language = None,
        batch_size: int = 32,
        **arguments: Any,
    ) -> list[str]:
        """Generates an answer to each text, by default greedily.

        Args:
            texts: in any language of the encoder; in the same template as in training.
            max_new_tokens: upper limit per answer.
            instruction: English text after the soft prompt; None takes the config's.
            language: as in ``classify``.
            batch_size: texts per batch.
            **arguments: of transformers' ``generate`` (``do_sample``, ``num_beams``, …).

        Returns:
            The answers; with ``num_return_sequences``, each text's answers in a row.
        """
        arguments.setdefault("do_sample", False)

        def answer(batch: list[str], language: Language) -> list[str]:
            ids = self.generate(
                hidden_states=self.encode(batch, language),
                instruction=instruction,
                max_new_tokens=max_new_tokens,
                **arguments,
            )
            decoded = self.language_model.tokenizer.batch_decode(ids, skip_special_tokens=True)
            return [text.strip() for text in decoded]

        with cut_answers_said():
            return self._in_batches(texts, batch_size, answer, language)

    def layer_weights(
        self, texts: str | Sequence[str], *, language: Language = None, batch_size: int = 32
    ) -> list[LayerWeights]:
        """Returns α of each text: how much of each layer goes into each token."""

        @torch.no_grad()
        def weigh(batch: list[str], language: Language) -> list[LayerWeights]:
            ids = self.encoder.tokenize(batch)["input_ids"]
            states = self.encode(batch, language)
            weights = self.fusion.weights(states).float().cpu()
            finite = weights.isfinite().all(-1) | ~states.mask.cpu()
            check_rows(finite.all(1), "the layer weights", self.encoder.model.dtype)
            convert = self.encoder.tokenizer.convert_ids_to_tokens
            return [
                LayerWeights(list(convert(row_ids[mask])), row[mask], self.encoder.first_layer)
                for row_ids, mask, row in zip(ids, states.mask.cpu(), weights, strict=True)
            ]

        return self._in_batches(texts, batch_size, weigh, language)

    def option_words(self, options: Sequence[str] | None) -> list[str]:
        """Returns the given options, or those of training.

        Raises:
            DataError: there are no options, or an empty or duplicate one.
        """
        if options is None:
            options = self.config.options
        if not options:
            raise DataError(
                "there are no options to choose from",
                allowed="options=[…], or a bridge trained with label words",
            )
        check_options(options)
        return list(options)

    def _in_batches(
        self,
        texts: str | Sequence[str],
        size: int,
        answer: Callable[[list[str], Language], Sequence[Answer]],
        language: Language,
    ) -> list[Answer]:
        """Answers batches of similar length in eval mode, and restores the order of the texts.

        A text may have several answers (``num_return_sequences``), as many as the others.

        Raises:
            DataError: there are more or fewer languages than texts.
            NotFiniteError: names a text whose answer is made of NaN or infinities.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        of_each = None if language is None or isinstance(language, str) else list(language)
        if of_each is not None and len(of_each) != len(texts):
            raise DataError(
                f"{len(of_each)} languages for {len(texts)} texts",
                allowed="one for all, or one for each",
            )
        results: dict[int, Sequence[Answer]] = {}
        with eval_mode(cast("nn.Module", self)):
            for indices in by_length([len(text) for text in texts], size):
                batch = [texts[index] for index in indices]
                of_batch = language if of_each is None else [of_each[index] for index in indices]
                with naming(batch):
                    answers = answer(batch, of_batch)
                each = len(answers) // len(indices)
                for turn, index in enumerate(indices):
                    results[index] = answers[turn * each : (turn + 1) * each]
        return [result for index in range(len(texts)) for result in results[index]]


def option_ids(language_model: LanguageModel, option: str) -> list[int]:
    """Returns an option as the language model is trained to answer it: its tokens, then EOS."""
    return [*language_model.token_ids(option), language_model.eos_id]


def option_divisors(ids: Sequence[Sequence[int]], length_normalization: str) -> Tensor:
    """Returns the divisors [O] of summed scores: 1 for ``"sum"``, token counts for ``"mean"``.

    Raises:
        DataError: ``length_normalization`` is neither.
    """
    if length_normalization not in NORMALIZATIONS:
        raise DataError(
            f"unknown length normalization {length_normalization!r}", allowed=NORMALIZATIONS
        )
    return torch.tensor([len(option) if length_normalization == "mean" else 1 for option in ids])


def classification(
    options: Sequence[str],
    scores: Tensor,
    divisors: Tensor | None = None,
    usual: float | None = None,
) -> Classification:
    """Returns the classification by summed log-probabilities [O]; the first of equals wins.

    Args:
        options: O label words.
        scores: of each.
        divisors: of the scores, as ``option_divisors`` returns them; None for 1.
        usual: the config's ``usual_any_option``.
    """
    # Rounding may take a sum of probabilities above 1.
    any_option = min(1.0, float(scores.double().exp().sum()))
    if divisors is not None:
        scores = scores / divisors
    probabilities = scores.softmax(0).tolist()
    return Classification(
        choice=options[int(scores.argmax())],
        scores=dict(zip(options, scores.tolist(), strict=True)),
        probabilities=dict(zip(options, probabilities, strict=True)),
        any_option=any_option,
        far_from_training=any_option < FAR * (1.0 if usual is None else usual),
    )
