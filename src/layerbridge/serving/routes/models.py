"""GET /v1/models: the bridges, and what they are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from layerbridge.models.config import BridgeConfig
from layerbridge.serving.responses import BridgeCard, ModelCard, ModelList
from layerbridge.serving.routes.refusals import REFUSALS
from layerbridge.serving.service import Service, service_of

router = APIRouter()

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: REFUSALS[status] for status in (401, 404, 500, 503)
}


@router.get("/v1/models", responses=_REFUSALS)
async def models(request: Request) -> ModelList:
    """All bridges."""
    service = service_of(request)
    return ModelList(data=[_card(service, name) for name in service.engine.bridges])


# A run's name may have slashes.
@router.get("/v1/models/{model:path}", responses=_REFUSALS)
async def model(model: str, request: Request) -> ModelCard:
    """One bridge."""
    service = service_of(request)
    service.check_model(model)
    return _card(service, model)


def _card(service: Service, name: str) -> ModelCard:
    config: BridgeConfig = service.engine.bridges[name].config
    card = BridgeCard(
        fusion=config.fusion,
        encoder=shown(config.encoder),
        language_model=shown(config.language_model),
        options=config.options,
        instruction=config.instruction,
        template=config.template,
        layers=config.encoder_layers,
    )
    return ModelCard(id=name, created=service.created, layerbridge=card)


def shown(source: str | None) -> str | None:
    """A backbone as strangers may see it: a hub id or zoo name whole, of a folder its name alone.

    A bridge may have been trained on another machine, so that its folder is none here.
    """
    if source is None or source.startswith("zoo:"):
        return source
    parts = source.replace("\\", "/").rstrip("/").split("/")
    named = len(parts) <= 2 and "\\" not in source and parts[0] not in ("", ".", "..", "~")
    return source if named and not Path(source).exists() else parts[-1]
