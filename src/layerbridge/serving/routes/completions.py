"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from layerbridge.serving.handlers import Job, respond, response_head
from layerbridge.serving.logprobs import completion_logprobs
from layerbridge.serving.responses import (
    CompletionChoice,
    CompletionLogprobs,
    CompletionReply,
    Usage,
)
from layerbridge.serving.routes.error_responses import STREAM_RESPONSES
from layerbridge.serving.schema import CompletionRequest
from layerbridge.serving.service import ServiceDependency
from layerbridge.serving.streaming import Completion, Delta, OffsetToken
from layerbridge.serving.vocabulary import Vocabulary

router = APIRouter()


@router.post("/v1/completions", response_model=CompletionReply, responses=STREAM_RESPONSES)
async def completions(
    body: CompletionRequest, request: Request, service: ServiceDependency
) -> Response:
    """Completes each prompt; white space is kept."""
    service.check_model(body.model)
    service.limits.check_prompts(body.prompts)
    service.limits.check_text(body.instruction, "instruction")
    job = Job(
        body,
        texts=body.prompts,
        instruction=body.instruction,
        max_tokens=service.limits.check_tokens(body.n, body.max_tokens),
        logprobs=body.logprobs,
        strip=False,
    )
    return await respond(request, service, job, CompletionFormat(body, service.vocabulary))


class CompletionFormat:
    """Writes completions as plain text."""

    def __init__(self, body: CompletionRequest, vocabulary: Vocabulary) -> None:
        self._logprobs_requested = body.logprobs is not None
        self._vocabulary = vocabulary
        self._head = response_head("cmpl", body.model)

    def response(self, completions: Sequence[Completion], usage: Usage) -> CompletionReply:
        """Returns the body of a response that is not streamed."""
        choices = [self._choice(index, one) for index, one in enumerate(completions)]
        return CompletionReply(**self._head, choices=choices, usage=usage)

    def chunks(self, delta: Delta) -> Sequence[BaseModel]:
        """Returns text, with the finish reason in the last chunk."""
        if delta.is_start:
            return []
        return [CompletionReply(**self._head, choices=[self._choice(delta.index, delta)])]

    def usage_chunk(self, usage: Usage) -> CompletionReply:
        """Returns the token counts at the end of a stream."""
        return CompletionReply(**self._head, choices=[], usage=usage)

    def _choice(self, index: int, part: Completion | Delta) -> CompletionChoice:
        return CompletionChoice(
            index=index,
            text=part.text,
            logprobs=self._logprobs(part.tokens),
            finish_reason=part.finish_reason,
        )

    def _logprobs(self, tokens: Sequence[OffsetToken]) -> CompletionLogprobs | None:
        return completion_logprobs(self._vocabulary, tokens) if self._logprobs_requested else None
