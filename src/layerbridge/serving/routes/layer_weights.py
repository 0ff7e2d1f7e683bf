"""POST /v1/layer_weights, which is not OpenAI's: which encoder layers each token drew on."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from layerbridge.serving.handlers import while_client_waits
from layerbridge.serving.limits import in_time
from layerbridge.serving.responses import LayerWeightsReply
from layerbridge.serving.routes.refusals import REFUSALS
from layerbridge.serving.schema import LayerWeightsRequest
from layerbridge.serving.service import Service, service_of

# Float32 has no more digits worth sending, and written out it would be twice as long.
_DIGITS = 7

router = APIRouter()


@router.post("/v1/layer_weights", response_model=LayerWeightsReply, responses=REFUSALS)
async def layer_weights(asked: LayerWeightsRequest, request: Request) -> Response:
    """How much of each encoder layer went into each token of the text."""
    service = service_of(request)
    service.check_model(asked.model)
    service.limits.check_text(asked.text, "text")
    return await while_client_waits(request, _layer_weights(service, asked))


async def _layer_weights(service: Service, asked: LayerWeightsRequest) -> Response:
    async with in_time(service.limits.timeout_s), service.gate.admit():
        found = await service.engine.layer_weights(asked.model, asked.text)
    reply = LayerWeightsReply(
        model=asked.model,
        tokens=found.tokens,
        layers=list(range(found.first_layer, found.first_layer + found.weights.shape[1])),
        weights=[[round(weight, _DIGITS) for weight in row] for row in found.weights.tolist()],
    )
    return JSONResponse(reply.model_dump())
