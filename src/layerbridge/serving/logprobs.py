"""Logprobs: how likely an answer's tokens were, as OpenAI's two routes tell it."""

from __future__ import annotations

from collections.abc import Sequence

from layerbridge.serving.responses import ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob
from layerbridge.serving.streaming import Segment
from layerbridge.serving.vocabulary import Vocabulary

# JSON has no infinity; OpenAI writes this for what is all but impossible.
_LEAST = -9999.0


def chat_logprobs(vocabulary: Vocabulary, pieces: Sequence[Segment]) -> ChatLogprobs:
    """As chat tells it."""
    return ChatLogprobs(
        content=[
            TokenLogprob(
                token=vocabulary.text_of(piece.token.id),
                logprob=_logprob(piece.token.logprob),
                bytes=list(vocabulary.bytes_of(piece.token.id)),
                top_logprobs=[
                    TopLogprob(
                        token=vocabulary.text_of(id),
                        logprob=_logprob(logprob),
                        bytes=list(vocabulary.bytes_of(id)),
                    )
                    for id, logprob in piece.token.top
                ],
            )
            for piece in pieces
        ]
    )


def completion_logprobs(vocabulary: Vocabulary, pieces: Sequence[Segment]) -> CompletionLogprobs:
    """As completions tell it; of tokens that look the same, the likeliest."""
    tops = []
    for piece in pieces:
        token = piece.token
        # From the least likely on, so that the likeliest of those that look the same is kept.
        top = {vocabulary.text_of(id): _logprob(logprob) for id, logprob in reversed(token.top)}
        top.setdefault(vocabulary.text_of(token.id), _logprob(token.logprob))
        tops.append(dict(sorted(top.items(), key=lambda item: -item[1])))
    return CompletionLogprobs(
        tokens=[vocabulary.text_of(piece.token.id) for piece in pieces],
        token_logprobs=[_logprob(piece.token.logprob) for piece in pieces],
        top_logprobs=tops,
        text_offset=[piece.offset for piece in pieces],
    )


def _logprob(value: float | None) -> float:
    return _LEAST if value is None else max(value, _LEAST)
