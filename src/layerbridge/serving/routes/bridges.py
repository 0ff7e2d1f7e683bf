"""POST /v1/classify and /v1/layer_weights, which OpenAI's API does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from layerbridge.models.inference import Classification, LayerWeights
from layerbridge.serving.handlers import run_limited, together
from layerbridge.serving.requests import Question
from layerbridge.serving.responses import (
    ClassifiedText,
    ClassifyListReply,
    ClassifyReply,
    LayerWeightsReply,
    OptionScore,
)
from layerbridge.serving.routes.error_responses import ERROR_RESPONSES
from layerbridge.serving.schema import ClassifyRequest, LayerWeightsRequest
from layerbridge.serving.service import ServiceDependency

# Float32 has no more digits, and without rounding the response would be twice as long.
_DIGITS = 7

router = APIRouter()


@router.post(
    "/v1/classify", response_model=ClassifyReply | ClassifyListReply, responses=ERROR_RESPONSES
)
async def classify(body: ClassifyRequest, request: Request, service: ServiceDependency) -> Response:
    """Scores options by their likelihood as the language model's answer, for one text or several.

    Texts of one request share the engine's batches.
    """
    service.check_model(body.model)
    service.check_language(body.model, body.language)
    texts = service.limits.check_texts(body.text, "text")
    service.limits.check_text(body.instruction, "instruction")
    weight = service.limits.check_options(body.options) * len(texts)
    service.limits.check_answers(weight, "text")
    questions = questions_of(body)
    results = await run_limited(
        request, service, lambda: together(map(service.engine.classify, questions)), weight
    )
    return JSONResponse(classify_reply(body, results).model_dump())


def questions_of(body: ClassifyRequest) -> list[Question]:
    """Returns a question for each text of a request."""
    texts = [body.text] if isinstance(body.text, str) else body.text
    options = None if body.options is None else tuple(body.options)
    return [
        Question(body.model, text, options, body.instruction, body.normalize, body.language)
        for text in texts
    ]


def classify_reply(
    body: ClassifyRequest, results: Sequence[Classification]
) -> ClassifyReply | ClassifyListReply:
    """Returns the response that says how the texts of a request were classified."""
    if isinstance(body.text, str):
        return ClassifyReply(model=body.model, **_classified(results[0]))
    data = [
        ClassifiedText(index=index, **_classified(result)) for index, result in enumerate(results)
    ]
    return ClassifyListReply(model=body.model, data=data)


def _classified(result: Classification) -> dict[str, Any]:
    """Returns the fields of a response that say how a text was classified."""
    return {
        "choice": result.choice,
        "options": [
            OptionScore(option=option, score=score, probability=result.probabilities[option])
            for option, score in result.scores.items()
        ],
        "any_option": result.any_option,
        "far_from_training": result.far_from_training,
    }


@router.post("/v1/layer_weights", response_model=LayerWeightsReply, responses=ERROR_RESPONSES)
async def layer_weights(
    body: LayerWeightsRequest, request: Request, service: ServiceDependency
) -> Response:
    """Returns the weight of each encoder layer in each token of the text."""
    service.check_model(body.model)
    service.limits.check_text(body.text, "text")
    result = await run_limited(
        request, service, lambda: service.engine.layer_weights(body.model, body.text)
    )
    return JSONResponse(layer_weights_reply(body.model, result).model_dump())


def layer_weights_reply(model: str, result: LayerWeights) -> LayerWeightsReply:
    """Returns the response with these layer weights."""
    return LayerWeightsReply(
        model=model,
        tokens=result.tokens,
        layers=list(range(result.first_layer, result.first_layer + result.weights.shape[1])),
        weights=[[round(weight, _DIGITS) for weight in row] for row in result.weights.tolist()],
    )
