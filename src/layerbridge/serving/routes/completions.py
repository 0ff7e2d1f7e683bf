"""POST /v1/completions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import uuid4

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from layerbridge.serving.handlers import Job, reply
from layerbridge.serving.logprobs import completion_logprobs
from layerbridge.serving.responses import (
    CompletionChoice,
    CompletionLogprobs,
    CompletionReply,
    Usage,
)
from layerbridge.serving.routes.refusals import REFUSALS
from layerbridge.serving.schema import CompletionRequest
from layerbridge.serving.service import service_of
from layerbridge.serving.streaming import Answer, Delta, Segment
from layerbridge.serving.vocabulary import Vocabulary

router = APIRouter()


@router.post(
    "/v1/completions",
    response_model=CompletionReply,
    responses={200: {"content": {"text/event-stream": {}}}, **REFUSALS},
)
async def completions(asked: CompletionRequest, request: Request) -> Response:
    """Answers each prompt, as the language model writes it, white space and all."""
    service = service_of(request)
    service.check_model(asked.model)
    service.limits.check_prompts(asked.prompts)
    service.limits.check_text(asked.instruction, "instruction")
    job = Job(
        asked,
        texts=asked.prompts,
        instruction=asked.instruction,
        max_tokens=service.limits.check_answers(asked.n, asked.max_tokens),
        logprobs=asked.logprobs,
        strip=False,
    )
    return await reply(request, service, job, CompletionForm(asked, service.vocabulary))


class CompletionForm:
    """How completions writes answers.

    Args:
        asked: the request.
        vocabulary: the language model's.
    """

    def __init__(self, asked: CompletionRequest, vocabulary: Vocabulary) -> None:
        self._asked = asked
        self._vocabulary = vocabulary
        self._id = f"cmpl-{uuid4().hex}"
        self._created = int(time.time())

    def whole(self, answers: Sequence[Answer], usage: Usage) -> CompletionReply:
        """All of it at once."""
        choices = [
            CompletionChoice(
                index=index,
                text=answer.text,
                logprobs=self._logprobs(answer.pieces),
                finish_reason=answer.finish_reason,
            )
            for index, answer in enumerate(answers)
        ]
        return self._reply(choices, usage)

    def chunks(self, delta: Delta) -> Sequence[BaseModel]:
        """Text, and with the last of it why it ended."""
        if delta.begins:
            return []
        choice = CompletionChoice(
            index=delta.index,
            text=delta.text,
            logprobs=self._logprobs(delta.pieces),
            finish_reason=delta.finish_reason,
        )
        return [self._reply([choice])]

    def last(self, usage: Usage) -> CompletionReply:
        """The usage at the end of a stream."""
        return self._reply([], usage)

    def _reply(
        self, choices: list[CompletionChoice], usage: Usage | None = None
    ) -> CompletionReply:
        return CompletionReply(
            id=self._id,
            created=self._created,
            model=self._asked.model,
            choices=choices,
            usage=usage,
        )

    def _logprobs(self, pieces: Sequence[Segment]) -> CompletionLogprobs | None:
        if self._asked.logprobs is None:
            return None
        return completion_logprobs(self._vocabulary, pieces)
