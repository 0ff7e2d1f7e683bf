"""GET /v1/models: the bridges and their descriptions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from layerbridge.models.config import BridgeConfig
from layerbridge.serving.responses import BridgeCard, ExampleCard, ModelCard, ModelList
from layerbridge.serving.routes.error_responses import ERROR_RESPONSES
from layerbridge.serving.service import Service, ServiceDependency

router = APIRouter()

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: ERROR_RESPONSES[status] for status in (401, 404, 500, 503)
}


@router.get("/v1/models", responses=_ERRORS)
@router.get("/v1/models/", include_in_schema=False)
async def models(service: ServiceDependency) -> ModelList:
    """Lists all bridges."""
    return ModelList(data=[_card(service, name) for name in service.engine.bridges])


# The name of a run may contain slashes.
@router.get("/v1/models/{model:path}", responses=_ERRORS)
async def model(model: str, service: ServiceDependency) -> ModelCard:
    """Describes one bridge."""
    service.check_model(model)
    return _card(service, model)


def _card(service: Service, name: str) -> ModelCard:
    bridges = service.engine.bridges
    config: BridgeConfig = bridges[name].config
    card = BridgeCard(
        fusion=config.fusion,
        encoder=public_name(config.encoder),
        language_model=public_name(config.language_model),
        options=config.options,
        instruction=config.instruction,
        template=config.template,
        layers=config.encoder_layers,
        examples=[ExampleCard(**asdict(each)) for each in bridges.examples[name]],
    )
    return ModelCard(id=name, created=service.created, layerbridge=card)


def public_name(source: str | None) -> str | None:
    """Returns a backbone's hub id or zoo name, but only the last part of a folder's path.

    The folder may be on the machine the bridge was trained on, so it need not exist here.
    """
    if source is None or source.startswith("zoo:"):
        return source
    parts = source.replace("\\", "/").rstrip("/").split("/")
    is_name = len(parts) <= 2 and "\\" not in source and parts[0] not in ("", ".", "..", "~")
    return source if is_name and not Path(source).exists() else parts[-1]
