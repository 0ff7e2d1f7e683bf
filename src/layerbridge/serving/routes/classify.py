"""POST /v1/classify, which is not OpenAI's: a text's answer among options."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from layerbridge.serving.handlers import while_client_waits
from layerbridge.serving.limits import in_time
from layerbridge.serving.requests import Question
from layerbridge.serving.responses import ClassifyReply, OptionScore
from layerbridge.serving.routes.refusals import REFUSALS
from layerbridge.serving.schema import ClassifyRequest
from layerbridge.serving.service import Service, service_of

router = APIRouter()


@router.post("/v1/classify", response_model=ClassifyReply, responses=REFUSALS)
async def classify(asked: ClassifyRequest, request: Request) -> Response:
    """Ranks options by how likely the language model is to answer them."""
    service = service_of(request)
    service.check_model(asked.model)
    service.limits.check_text(asked.text, "text")
    service.limits.check_text(asked.instruction, "instruction")
    service.limits.check_options(asked.options)
    return await while_client_waits(request, _classify(service, asked))


async def _classify(service: Service, asked: ClassifyRequest) -> Response:
    question = Question(
        bridge=asked.model,
        text=asked.text,
        options=None if asked.options is None else tuple(asked.options),
        instruction=asked.instruction,
        normalize=asked.normalize,
    )
    async with in_time(service.limits.timeout_s), service.gate.admit():
        found = await service.engine.classify(question)
    scores = [
        OptionScore(option=option, score=score, probability=found.probabilities[option])
        for option, score in found.scores.items()
    ]
    reply = ClassifyReply(model=asked.model, choice=found.choice, options=scores)
    return JSONResponse(reply.model_dump())
