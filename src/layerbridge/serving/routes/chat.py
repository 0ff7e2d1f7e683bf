"""POST /v1/chat/completions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import uuid4

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from layerbridge.serving.handlers import Job, reply
from layerbridge.serving.logprobs import chat_logprobs
from layerbridge.serving.responses import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    ChatReply,
    Usage,
)
from layerbridge.serving.routes.refusals import REFUSALS
from layerbridge.serving.schema import ChatRequest
from layerbridge.serving.service import service_of
from layerbridge.serving.streaming import Answer, Delta, Segment
from layerbridge.serving.vocabulary import Vocabulary

router = APIRouter()


@router.post(
    "/v1/chat/completions",
    response_model=ChatReply,
    responses={200: {"content": {"text/event-stream": {}}}, **REFUSALS},
)
async def chat(asked: ChatRequest, request: Request) -> Response:
    """Answers a chat. What a bridge reads of its messages is the server's setting."""
    service = service_of(request)
    service.check_model(asked.model)
    text, instruction = service.mapping.read(asked.messages)
    instruction = instruction if asked.instruction is None else asked.instruction
    service.limits.check_text(text, "messages")
    service.limits.check_text(instruction, "instruction")
    newer = asked.max_completion_tokens
    max_tokens = service.limits.check_answers(
        asked.n,
        asked.max_tokens if newer is None else newer,
        "max_tokens" if newer is None else "max_completion_tokens",
    )
    job = Job(
        asked,
        texts=[text],
        instruction=instruction,
        max_tokens=max_tokens,
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        strip=True,
    )
    return await reply(request, service, job, ChatForm(asked, service.vocabulary))


class ChatForm:
    """How chat writes answers.

    Args:
        asked: the request.
        vocabulary: the language model's.
    """

    def __init__(self, asked: ChatRequest, vocabulary: Vocabulary) -> None:
        self._asked = asked
        self._vocabulary = vocabulary
        self._id = f"chatcmpl-{uuid4().hex}"
        self._created = int(time.time())

    def whole(self, answers: Sequence[Answer], usage: Usage) -> ChatReply:
        """All of it at once."""
        choices = [
            ChatChoice(
                index=index,
                message=ChatMessage(content=answer.text),
                logprobs=self._logprobs(answer.pieces),
                finish_reason=answer.finish_reason,
            )
            for index, answer in enumerate(answers)
        ]
        return ChatReply(
            id=self._id,
            created=self._created,
            model=self._asked.model,
            choices=choices,
            usage=usage,
        )

    def chunks(self, delta: Delta) -> Sequence[BaseModel]:
        """The role first, then text, then why it ended."""
        choices = []
        if delta.begins:
            role = ChatDelta(role="assistant", content="")
            choices.append(ChatChunkChoice(index=delta.index, delta=role))
        if delta.text or delta.pieces:
            text = ChatDelta(content=delta.text)
            logprobs = self._logprobs(delta.pieces)
            choices.append(ChatChunkChoice(index=delta.index, delta=text, logprobs=logprobs))
        if delta.finish_reason is not None:
            reason = delta.finish_reason
            choices.append(
                ChatChunkChoice(index=delta.index, delta=ChatDelta(), finish_reason=reason)
            )
        return [self._chunk([choice]) for choice in choices]

    def last(self, usage: Usage) -> ChatChunk:
        """The usage at the end of a stream."""
        return self._chunk([], usage)

    def _chunk(self, choices: list[ChatChunkChoice], usage: Usage | None = None) -> ChatChunk:
        return ChatChunk(
            id=self._id,
            created=self._created,
            model=self._asked.model,
            choices=choices,
            usage=usage,
        )

    def _logprobs(self, pieces: Sequence[Segment]) -> ChatLogprobs | None:
        return chat_logprobs(self._vocabulary, pieces) if self._asked.logprobs else None
