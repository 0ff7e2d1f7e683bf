"""Options of a question: what the language model may answer, as token ids.

Legend: O options.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import DataError, NotFiniteError
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.finite import advice
from layerbridge.models.inference import classification, option_divisors, option_ids
from layerbridge.serving.labels import Ranking
from layerbridge.serving.requests import Question

# Of all options together. Each costs a row of logits, and with vLLM a request.
MAX_TOKENS = 8192


class Options:
    """A question's options.

    Args:
        bridge: tokenizes them, and has those of training.
        question: its options; None takes those of training.

    Attributes:
        ids: of each option, EOS included.
        longest: tokens of the longest option.

    Raises:
        DataError: there are none, one is empty or a duplicate, or they are too long together.
    """

    def __init__(self, bridge: LayerBridge, question: Question) -> None:
        self._words = bridge.option_words(question.options)
        self.ids = [option_ids(bridge.language_model, word) for word in self._words]
        self._usual = bridge.config.usual_any_option
        self._dtype = bridge.language_model.dtype
        self._divisors = option_divisors(self.ids, question.normalize)
        self.longest = max(map(len, self.ids))
        total = sum(map(len, self.ids))
        if total > MAX_TOKENS:
            raise DataError(
                f"options: {total} tokens in all", allowed=f"at most {MAX_TOKENS}, ends included"
            )

    def ranking(self, scores: Float[Tensor, " O"], prompt_tokens: int) -> Ranking:
        """Returns the classification by the options' summed log-probabilities.

        Args:
            scores: of the options.
            prompt_tokens: of the language model's input before them.

        Raises:
            NotFiniteError: a score is not a finite number.
        """
        if not scores.isfinite().all():
            raise NotFiniteError("the option scores", hint=advice(self._dtype))
        found = classification(self._words, scores, self._divisors, self._usual)
        return Ranking(found, self.ids, prompt_tokens)


def prefixes_of(option: Sequence[int]) -> list[tuple[int, ...]]:
    """Returns an option's first token, its first two, … all of it."""
    return [tuple(option[:end]) for end in range(1, len(option) + 1)]
