"""Log-probabilities of generated tokens in the formats of OpenAI's two routes."""

from __future__ import annotations

from collections.abc import Sequence

from layerbridge.serving.responses import ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob
from layerbridge.serving.streaming import OffsetToken
from layerbridge.serving.vocabulary import Vocabulary

# JSON has no infinity; OpenAI writes this for tokens that are all but impossible.
_MINIMUM = -9999.0


def chat_logprobs(vocabulary: Vocabulary, tokens: Sequence[OffsetToken]) -> ChatLogprobs:
    """Returns the logprobs of chat completions."""

    def top_logprob(id: int, logprob: float | None) -> TopLogprob:
        return TopLogprob(
            token=vocabulary.token_text(id),
            logprob=_finite(logprob),
            bytes=list(vocabulary.token_bytes(id)),
        )

    return ChatLogprobs(
        content=[
            TokenLogprob(
                **top_logprob(token.id, token.logprob).model_dump(),
                top_logprobs=[top_logprob(*pair) for pair in token.top],
            )
            for token, _ in tokens
        ]
    )


def completion_logprobs(
    vocabulary: Vocabulary, tokens: Sequence[OffsetToken]
) -> CompletionLogprobs:
    """Returns the logprobs of completions; of tokens with the same text, the most likely one's."""
    tops = []
    for token, _ in tokens:
        # In ascending order, so that the most likely of those with the same text is kept.
        pairs = reversed(token.top)
        top = {vocabulary.token_text(id): _finite(logprob) for id, logprob in pairs}
        top.setdefault(vocabulary.token_text(token.id), _finite(token.logprob))
        tops.append(dict(sorted(top.items(), key=lambda item: -item[1])))
    return CompletionLogprobs(
        tokens=[vocabulary.token_text(token.id) for token, _ in tokens],
        token_logprobs=[_finite(token.logprob) for token, _ in tokens],
        top_logprobs=tops,
        text_offset=[offset for _, offset in tokens],
    )


def _finite(logprob: float | None) -> float:
    return _MINIMUM if logprob is None else max(logprob, _MINIMUM)
