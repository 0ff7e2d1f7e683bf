"""POST /v1/classify, not in OpenAI's API: chooses among options."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from layerbridge.serving.handlers import run_limited
from layerbridge.serving.requests import Question
from layerbridge.serving.responses import ClassifyReply, OptionScore
from layerbridge.serving.routes.error_responses import ERROR_RESPONSES
from layerbridge.serving.schema import ClassifyRequest
from layerbridge.serving.service import ServiceDependency

router = APIRouter()


@router.post("/v1/classify", response_model=ClassifyReply, responses=ERROR_RESPONSES)
async def classify(body: ClassifyRequest, request: Request, service: ServiceDependency) -> Response:
    """Scores options by their likelihood as the language model's answer."""
    service.check_model(body.model)
    service.limits.check_text(body.text, "text")
    service.limits.check_text(body.instruction, "instruction")
    service.limits.check_options(body.options)
    question = Question(
        bridge=body.model,
        text=body.text,
        options=None if body.options is None else tuple(body.options),
        instruction=body.instruction,
        normalize=body.normalize,
    )
    result = await run_limited(request, service, lambda: service.engine.classify(question))
    scores = [
        OptionScore(option=option, score=score, probability=result.probabilities[option])
        for option, score in result.scores.items()
    ]
    reply = ClassifyReply(model=body.model, choice=result.choice, options=scores)
    return JSONResponse(reply.model_dump())
