"""GET /healthz, /readyz and /metrics: for monitoring."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from layerbridge.serving.responses import Health
from layerbridge.serving.service import ServiceDependency

router = APIRouter()


@router.get("/healthz")
async def healthz() -> Health:
    """Whether the server runs, whatever the engine does."""
    return Health(status="ok")


@router.get(
    "/readyz",
    response_model=Health,
    responses={503: {"model": Health, "description": "The server cannot answer now."}},
)
async def readyz(service: ServiceDependency) -> Response:
    """Whether requests can be answered now."""
    reason = service.unavailable_reason
    if reason is None:
        return JSONResponse(Health(status="ready").model_dump())
    status = "down" if reason.code == "engine_down" else reason.code
    body = Health.model_validate({"status": status})
    return JSONResponse(body.model_dump(), reason.status, reason.headers)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(service: ServiceDependency) -> Response:
    """Prometheus metrics."""
    return Response(service.metrics.text(), media_type=service.metrics.content_type)
