"""Routes that vLLM's server lacks: POST /v1/classify and /v1/layer_weights.

vLLM adds them where ``VLLM_PLUGINS=layerbridge`` allows it.
"""

from __future__ import annotations

import asyncio
from argparse import Namespace
from typing import Annotated, cast

import torch
from fastapi import APIRouter, Depends, FastAPI
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from vllm.engine.protocol import EngineClient
from vllm.exceptions import VLLMNotFoundError

from layerbridge.models.inference import LayerWeights
from layerbridge.serving.plugin import scoring
from layerbridge.serving.plugin.renderer import BridgeRenderer
from layerbridge.serving.responses import (
    ClassifyListReply,
    ClassifyReply,
    LayerWeightsReply,
)
from layerbridge.serving.routes.bridges import classify_reply, layer_weights_reply, questions_of
from layerbridge.serving.schema import ClassifyRequest, LayerWeightsRequest

router = APIRouter()


class Routes:
    """The plugin of vLLM's server (entry point ``vllm.endpoint_plugins``)."""

    name = "layerbridge"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Adds the routes."""
        app.include_router(router)

    async def init_state(
        self, engine_client: EngineClient | None, state: State, args: Namespace
    ) -> None:
        """Keeps the engine for the routes; a server of another model gets none of them."""
        state.layerbridge_engine = engine_client


def _engine(request: Request) -> EngineClient:
    engine = request.app.state.layerbridge_engine
    if not isinstance(getattr(engine, "renderer", None), BridgeRenderer):
        raise VLLMNotFoundError("the model is not a bridge")
    return cast(EngineClient, engine)


Engine = Annotated[EngineClient, Depends(_engine)]


def _check_model(request: Request, name: str) -> None:
    models = request.app.state.openai_serving_models
    if not models.is_base_model(name):
        raise VLLMNotFoundError(f"no model {name!r}; allowed: {models.model_name()!r}")


@router.post("/v1/classify", response_model=ClassifyReply | ClassifyListReply)
async def classify(body: ClassifyRequest, request: Request, engine: Engine) -> Response:
    """Scores options by their likelihood as the language model's answer, for one or more texts."""
    _check_model(request, body.model)
    questions = questions_of(body)
    results = await asyncio.gather(*(scoring.classify(engine, each) for each in questions))
    return JSONResponse(classify_reply(body, results).model_dump())


@router.post("/v1/layer_weights", response_model=LayerWeightsReply)
async def layer_weights(body: LayerWeightsRequest, request: Request, engine: Engine) -> Response:
    """Returns the weight of each encoder layer in each token of the text."""
    _check_model(request, body.model)
    encoder = cast(BridgeRenderer, engine.renderer).bridge.encoder
    ids = encoder.tokenize([body.text])["input_ids"][0].tolist()
    found = await engine.collective_rpc("layer_weights", args=(ids,))
    weights = next(rows for rows in found if rows is not None)
    tokens = list(encoder.tokenizer.convert_ids_to_tokens(ids))
    result = LayerWeights(tokens, torch.tensor(weights), encoder.first_layer)
    return JSONResponse(layer_weights_reply(body.model, result).model_dump())
