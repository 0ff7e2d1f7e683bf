"""POST /v1/chat/completions and /v1/completions."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from layerbridge.serving.formats import ChatFormat, CompletionFormat
from layerbridge.serving.handlers import Job, respond
from layerbridge.serving.responses import ChatReply, CompletionReply
from layerbridge.serving.routes.error_responses import STREAM_RESPONSES
from layerbridge.serving.schema import ChatRequest, CompletionRequest, GenerationRequest
from layerbridge.serving.service import Service, ServiceDependency

router = APIRouter()


@router.post("/v1/chat/completions", response_model=ChatReply, responses=STREAM_RESPONSES)
async def chat(body: ChatRequest, request: Request, service: ServiceDependency) -> Response:
    """Answers a chat: with one of the options if there are any, else with free text.

    The server's settings say which messages a bridge reads.
    """
    service.check_model(body.model)
    service.check_language(body.model, body.language)
    text, instruction = service.mapping.read(body.messages)
    instruction = instruction if body.instruction is None else body.instruction
    service.limits.check_text(text, "messages")
    service.limits.check_text(instruction, "instruction")
    options, weight = _options(service, body)
    service.limits.check_answers(body.n * weight, "n")
    name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    job = Job(
        body,
        texts=[text],
        instruction=instruction,
        max_tokens=service.limits.check_tokens(body.n, getattr(body, name), name),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        strip=True,
        options=options,
        weight=weight,
    )
    return await respond(request, service, job, ChatFormat)


@router.post("/v1/completions", response_model=CompletionReply, responses=STREAM_RESPONSES)
async def completions(
    body: CompletionRequest, request: Request, service: ServiceDependency
) -> Response:
    """Completes each prompt, with one of the options if there are any; white space is kept."""
    service.check_model(body.model)
    service.check_language(body.model, body.language)
    service.limits.check_prompts(body.prompts)
    service.limits.check_text(body.instruction, "instruction")
    options, weight = _options(service, body)
    service.limits.check_answers(body.n * len(body.prompts) * weight, "prompt")
    job = Job(
        body,
        texts=body.prompts,
        instruction=body.instruction,
        max_tokens=service.limits.check_tokens(body.n, body.max_tokens),
        logprobs=body.logprobs,
        strip=False,
        options=options,
        weight=weight,
    )
    return await respond(request, service, job, CompletionFormat)


def _options(service: Service, body: GenerationRequest) -> tuple[tuple[str, ...] | None, int]:
    """Returns what an answer is chosen from, and how much it weighs; None for free text."""
    if body.options is not None:
        return tuple(body.options) or None, service.limits.check_options(body.options)
    own = None if body.ignore_eos else service.engine.bridges[body.model].config.options
    return tuple(own or ()) or None, 1
