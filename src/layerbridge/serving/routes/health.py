"""GET /healthz, /readyz and /metrics: for whatever watches the server."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from layerbridge.serving.responses import Health
from layerbridge.serving.service import service_of

router = APIRouter()

_WORDS = {"engine_down": "down", "starting": "starting", "draining": "draining"}


@router.get("/healthz")
async def healthz() -> Health:
    """Whether the server runs; it says nothing of the engine."""
    return Health(status="ok")


@router.get(
    "/readyz",
    response_model=Health,
    responses={503: {"model": Health, "description": "It does not answer now."}},
)
async def readyz(request: Request) -> Response:
    """Whether questions would be answered now."""
    service = service_of(request)
    unavailable_reason = service.unavailable_reason
    if unavailable_reason is None:
        return JSONResponse(Health(status="ready").model_dump())
    body = Health.model_validate({"status": _WORDS[unavailable_reason.code]})
    return JSONResponse(body.model_dump(), unavailable_reason.status, unavailable_reason.headers)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """What the server does, for Prometheus."""
    found = service_of(request).metrics
    return Response(found.text(), media_type=found.content_type)
