"""Formats: completions and their log-probabilities as OpenAI's two routes write them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from uuid import uuid4

from pydantic import BaseModel

from layerbridge.models.inference import Classification
from layerbridge.serving.responses import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    ChatReply,
    CompletionChoice,
    CompletionLogprobs,
    CompletionReply,
    Labeled,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from layerbridge.serving.streaming import Completion, Delta, OffsetToken
from layerbridge.serving.vocabulary import Vocabulary

# JSON has no infinity; OpenAI writes this for tokens that are all but impossible.
_MINIMUM = -9999.0


class Format(ABC):
    """Writes the responses or the stream of one request.

    Args:
        model: the bridge's name.
        vocabulary: texts of the tokens.
        logprobs: whether to write log-probabilities.
    """

    id_prefix: str
    reply: type[BaseModel]
    chunk: type[BaseModel]

    def __init__(self, model: str, vocabulary: Vocabulary, *, logprobs: bool) -> None:
        self._vocabulary = vocabulary
        self._writes_logprobs = logprobs
        id = f"{self.id_prefix}-{uuid4().hex}"
        self._head = {"id": id, "created": int(time.time()), "model": model}

    def response(self, completions: Sequence[Completion], usage: Usage) -> BaseModel:
        """Returns the body of a response that is not streamed."""
        choices = [self._choice(index, one) for index, one in enumerate(completions)]
        return self.reply(**self._head, choices=choices, usage=usage)

    def chunks(self, delta: Delta) -> list[BaseModel]:
        """Returns the stream events of a delta, if any."""
        return [self.chunk(**self._head, choices=[choice]) for choice in self._new_choices(delta)]

    def usage_chunk(self, usage: Usage) -> BaseModel:
        """Returns the token counts at the end of a stream."""
        return self.chunk(**self._head, choices=[], usage=usage)

    @abstractmethod
    def _choice(self, index: int, completion: Completion) -> BaseModel: ...

    @abstractmethod
    def _new_choices(self, delta: Delta) -> Sequence[BaseModel]: ...


class ChatFormat(Format):
    """Writes completions as chat messages."""

    id_prefix = "chatcmpl"
    reply = ChatReply
    chunk = ChatChunk

    def _choice(self, index: int, completion: Completion) -> ChatChoice:
        return ChatChoice(
            index=index,
            message=ChatMessage(content=completion.text),
            logprobs=self._logprobs(completion.tokens),
            finish_reason=completion.finish_reason,
            layerbridge=labeled(completion.classification),
        )

    def _new_choices(self, delta: Delta) -> list[ChatChunkChoice]:
        """Returns the role first, then text, then the finish reason."""
        index, choices = delta.index, []
        if delta.is_start:
            role = ChatDelta(role="assistant", content="")
            choices.append(ChatChunkChoice(index=index, delta=role))
        if delta.text or delta.tokens:
            text, logprobs = ChatDelta(content=delta.text), self._logprobs(delta.tokens)
            choices.append(ChatChunkChoice(index=index, delta=text, logprobs=logprobs))
        if (reason := delta.finish_reason) is not None:
            label = labeled(delta.classification)
            choices.append(
                ChatChunkChoice(
                    index=index, delta=ChatDelta(), finish_reason=reason, layerbridge=label
                )
            )
        return choices

    def _logprobs(self, tokens: Sequence[OffsetToken]) -> ChatLogprobs | None:
        if not self._writes_logprobs:
            return None
        content = [
            TokenLogprob(
                **self._top_logprob(token.id, token.logprob).model_dump(),
                top_logprobs=[self._top_logprob(*pair) for pair in token.top],
            )
            for token, _ in tokens
        ]
        return ChatLogprobs(content=content)

    def _top_logprob(self, id: int, logprob: float | None) -> TopLogprob:
        return TopLogprob(
            token=self._vocabulary.token_text(id),
            logprob=_finite(logprob),
            bytes=list(self._vocabulary.token_bytes(id)),
        )


class CompletionFormat(Format):
    """Writes completions as plain text."""

    id_prefix = "cmpl"
    reply = chunk = CompletionReply

    def _choice(self, index: int, completion: Completion | Delta) -> CompletionChoice:
        return CompletionChoice(
            index=index,
            text=completion.text,
            logprobs=self._logprobs(completion.tokens),
            finish_reason=completion.finish_reason,
            layerbridge=labeled(completion.classification),
        )

    def _new_choices(self, delta: Delta) -> list[CompletionChoice]:
        return [] if delta.is_start else [self._choice(delta.index, delta)]

    def _logprobs(self, tokens: Sequence[OffsetToken]) -> CompletionLogprobs | None:
        """Returns the logprobs; of tokens with the same text, the most likely one's."""
        if not self._writes_logprobs:
            return None
        text = self._vocabulary.token_text
        tops = []
        for token, _ in tokens:
            # In ascending order, so that the most likely of those with the same text is kept.
            top = {text(id): _finite(logprob) for id, logprob in reversed(token.top)}
            top.setdefault(text(token.id), _finite(token.logprob))
            tops.append(dict(sorted(top.items(), key=lambda item: -item[1])))
        return CompletionLogprobs(
            tokens=[text(token.id) for token, _ in tokens],
            token_logprobs=[_finite(token.logprob) for token, _ in tokens],
            top_logprobs=tops,
            text_offset=[offset for _, offset in tokens],
        )


def labeled(classification: Classification | None) -> Labeled | None:
    """Returns how an answer that is one of the options is to be taken; None for free text."""
    if classification is None:
        return None
    return Labeled(
        any_option=classification.any_option,
        far_from_training=classification.far_from_training,
    )


def _finite(logprob: float | None) -> float:
    return _MINIMUM if logprob is None else max(logprob, _MINIMUM)
