"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from layerbridge.serving.handlers import Job, respond, response_head
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
from layerbridge.serving.routes.error_responses import STREAM_RESPONSES
from layerbridge.serving.schema import ChatRequest
from layerbridge.serving.service import ServiceDependency
from layerbridge.serving.streaming import Completion, Delta, OffsetToken
from layerbridge.serving.vocabulary import Vocabulary

router = APIRouter()


@router.post("/v1/chat/completions", response_model=ChatReply, responses=STREAM_RESPONSES)
async def chat(body: ChatRequest, request: Request, service: ServiceDependency) -> Response:
    """Answers a chat. The server's settings say which messages a bridge reads."""
    service.check_model(body.model)
    text, instruction = service.mapping.read(body.messages)
    instruction = instruction if body.instruction is None else body.instruction
    service.limits.check_text(text, "messages")
    service.limits.check_text(instruction, "instruction")
    name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    job = Job(
        body,
        texts=[text],
        instruction=instruction,
        max_tokens=service.limits.check_tokens(body.n, getattr(body, name), name),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        strip=True,
    )
    return await respond(request, service, job, ChatFormat(body, service.vocabulary))


class ChatFormat:
    """Writes completions as chat messages."""

    def __init__(self, body: ChatRequest, vocabulary: Vocabulary) -> None:
        self._logprobs_requested = body.logprobs
        self._vocabulary = vocabulary
        self._head = response_head("chatcmpl", body.model)

    def response(self, completions: Sequence[Completion], usage: Usage) -> ChatReply:
        """Returns the body of a response that is not streamed."""
        choices = [
            ChatChoice(
                index=index,
                message=ChatMessage(content=completion.text),
                logprobs=self._logprobs(completion.tokens),
                finish_reason=completion.finish_reason,
            )
            for index, completion in enumerate(completions)
        ]
        return ChatReply(**self._head, choices=choices, usage=usage)

    def chunks(self, delta: Delta) -> Sequence[BaseModel]:
        """Returns the role first, then text, then the finish reason."""
        choices = []
        if delta.is_start:
            role = ChatDelta(role="assistant", content="")
            choices.append(ChatChunkChoice(index=delta.index, delta=role))
        if delta.text or delta.tokens:
            text = ChatDelta(content=delta.text)
            logprobs = self._logprobs(delta.tokens)
            choices.append(ChatChunkChoice(index=delta.index, delta=text, logprobs=logprobs))
        if delta.finish_reason is not None:
            reason = delta.finish_reason
            choices.append(
                ChatChunkChoice(index=delta.index, delta=ChatDelta(), finish_reason=reason)
            )
        return [ChatChunk(**self._head, choices=[choice]) for choice in choices]

    def usage_chunk(self, usage: Usage) -> ChatChunk:
        """Returns the token counts at the end of a stream."""
        return ChatChunk(**self._head, choices=[], usage=usage)

    def _logprobs(self, tokens: Sequence[OffsetToken]) -> ChatLogprobs | None:
        return chat_logprobs(self._vocabulary, tokens) if self._logprobs_requested else None
