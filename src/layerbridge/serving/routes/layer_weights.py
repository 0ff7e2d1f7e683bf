"""POST /v1/layer_weights, not in OpenAI's API: encoder layers' weights in each token."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from layerbridge.serving.handlers import run_limited
from layerbridge.serving.responses import LayerWeightsReply
from layerbridge.serving.routes.error_responses import ERROR_RESPONSES
from layerbridge.serving.schema import LayerWeightsRequest
from layerbridge.serving.service import ServiceDependency

# Float32 has no more digits, and without rounding the response would be twice as long.
_DIGITS = 7

router = APIRouter()


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
    reply = LayerWeightsReply(
        model=body.model,
        tokens=result.tokens,
        layers=list(range(result.first_layer, result.first_layer + result.weights.shape[1])),
        weights=[[round(weight, _DIGITS) for weight in row] for row in result.weights.tolist()],
    )
    return JSONResponse(reply.model_dump())
