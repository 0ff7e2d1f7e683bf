"""App: the HTTP server around an engine.

    HEAD · metrics · headers · CORS · errors · keys · readiness · body limit · JSON · routes

From the outside in: refused requests are counted too, and their bodies are not read. The server
sends no request to other machines and neither does its page.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders, State
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from layerbridge.errors import LayerBridgeError
from layerbridge.serving.conversation import ChatMapping
from layerbridge.serving.engine import Engine, EngineDownError
from layerbridge.serving.errors import ApiError, ErrorMiddleware, handle
from layerbridge.serving.keys import Keys
from layerbridge.serving.limits import BodyLimitMiddleware, Gate, Limits
from layerbridge.serving.metrics import Metrics, MetricsMiddleware
from layerbridge.serving.openapi import openapi_document
from layerbridge.serving.routes import page, routers
from layerbridge.serving.service import Service
from layerbridge.version import __version__

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def create_app(
    engine: Engine,
    *,
    limits: Limits | None = None,
    mapping: ChatMapping | None = None,
    keys: Keys | None = None,
    metrics: Metrics | None = None,
    cors_origins: Sequence[str] = (),
) -> FastAPI:
    """Returns an ASGI app that serves this engine, and starts and stops it.

    While the engine starts, ``/healthz`` and ``/readyz`` already answer. Set ``app.state.drain``
    to refuse new requests and let running ones finish; ``app.state.service.gate.running`` counts
    those.

    Args:
        engine: not started yet; its ``on_batch`` is that of ``metrics``.
        limits: None for the defaults.
        mapping: how chat messages are read.
        keys: None lets everyone in.
        metrics: None for new ones.
        cors_origins: origins of web pages that may call the API.
    """
    limits = limits or Limits()
    metrics = metrics or Metrics()
    gate = Gate(limits)
    state = State({"drain": False})
    service = Service(engine, limits, mapping or ChatMapping(), metrics, gate, state)
    metrics.watch(engine, gate)

    middleware = [
        Middleware(HeadMiddleware),
        Middleware(MetricsMiddleware, metrics=metrics),
        Middleware(HeadersMiddleware),
    ]
    if cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
            )
        )
    middleware.append(Middleware(ErrorMiddleware))
    checks = [service.check_available] if keys is None else [keys.check, service.check_available]
    middleware.append(Middleware(CheckMiddleware, checks=checks))
    middleware.append(Middleware(BodyLimitMiddleware, limits=limits))
    # After the body has been read, as what is left of it would be the next request.
    middleware.append(Middleware(CheckMiddleware, checks=[check_json]))
    app = FastAPI(
        title="layerbridge",
        version=__version__,
        # FastAPI's own pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        middleware=middleware,
        # In place of FastAPI's own; all other errors reach ErrorMiddleware.
        exception_handlers={RequestValidationError: handle, HTTPException: handle},
        lifespan=_lifespan,
    )
    app.state = state
    app.state.service = service
    for router in routers:
        app.include_router(router)
    app.mount("/page", page.files)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi_document(app, keys=keys is not None)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    starting = asyncio.create_task(_start(service))
    try:
        yield
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await service.engine.stop()


async def _start(service: Service) -> None:
    try:
        await service.engine.start()
    except Exception as error:
        service.failed = True
        # One line is enough for an error that the user can fix.
        expected = isinstance(error, LayerBridgeError | EngineDownError)
        log.error("the engine failed to start: %s", error, exc_info=None if expected else error)


class HeadMiddleware:
    """ASGI middleware that answers HEAD as GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope.get("method") != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_without_body)


def check_json(scope: Scope) -> None:
    """Raises a 415 for a request to the API whose Content-Type is not JSON.

    Browsers let any page send what is called something else.
    """
    if scope["method"] != "POST" or not scope["path"].startswith("/v1/"):
        return
    given = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
    kind = given.partition(";")[0].strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        message = f"Content-Type: {given[:100] or 'none'}; allowed: application/json"
        raise ApiError(415, message, "unsupported_media_type")


class HeadersMiddleware:
    """ASGI middleware that adds security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class CheckMiddleware:
    """ASGI middleware whose checks may refuse a request with an ``ApiError``."""

    def __init__(self, app: ASGIApp, checks: Sequence[Callable[[Scope], None]]) -> None:
        self._app = app
        self._checks = checks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] == "http":
            for check in self._checks:
                check(scope)
        await self._app(scope, receive, send)
