"""App: the HTTP server around an engine, which it knows by ``engine.Engine`` alone.

    counting · headers · CORS · keys · faults · readiness · body limit · routes

From the outside in: what is refused is counted too, and nothing is read of a request that is not
let in. No request leaves the machine, and nothing the app serves makes a browser send one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
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
from layerbridge.serving.engine import Engine, EngineDown
from layerbridge.serving.errors import ErrorMiddleware, ErrorResponse, HttpError, handle
from layerbridge.serving.keys import KeyCheck, Keys
from layerbridge.serving.limits import BodyLimit, Gate, Limits
from layerbridge.serving.metrics import Counting, Metrics
from layerbridge.serving.openapi import document
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
    """An ASGI app that serves this engine, and starts and stops it with itself.

    While the engine starts, ``/healthz`` and ``/readyz`` answer already. Set ``app.state.drain`` to
    refuse new requests and let running ones end; ``app.state.service.gate.running`` says how many
    those are.

    Args:
        engine: what answers; it has not been started.
        limits: what it may be asked; None takes the defaults.
        mapping: what becomes of chat messages; None takes the defaults.
        keys: who may ask; None lets everyone.
        metrics: what the engine was given the ``on_batch`` of; None makes one.
        cors_origins: web pages of other origins that may ask; none by default.
    """
    limits = limits or Limits()
    metrics = metrics or Metrics()
    gate = Gate(limits)
    state = State({"drain": False})
    service = Service(engine, limits, mapping or ChatMapping(), metrics, gate, state)
    metrics.watch(engine, gate)

    middleware = [Middleware(Counting, metrics=metrics), Middleware(Headers)]
    if cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
            )
        )
    if keys is not None:
        middleware.append(Middleware(KeyCheck, keys=keys))
    middleware += [
        Middleware(ErrorMiddleware),
        Middleware(Readiness, service=service),
        Middleware(BodyLimit, limits=limits),
    ]
    told = (RequestValidationError, HTTPException, HttpError, LayerBridgeError, EngineDown)
    app = FastAPI(
        title="layerbridge",
        version=__version__,
        # FastAPI's own pages for these load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        middleware=middleware,
        exception_handlers=dict.fromkeys(told, handle),
        lifespan=_lifespan,
    )
    app.state = state
    app.state.service = service
    for router in routers:
        app.include_router(router)
    app.mount("/page", page.files)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app, keys=keys is not None)
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
    except (LayerBridgeError, EngineDown) as error:
        # The user's to mend, and told in one line.
        service.failed = True
        log.error("the engine could not be started: %s", error)
    except Exception:
        service.failed = True
        log.exception("the engine could not be started")


class Headers:
    """ASGI: what browsers are to allow of whatever is served.

    Args:
        app: what serves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI calls."""

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, adding)


class Readiness:
    """ASGI: refuses at once what cannot be answered now.

    Args:
        app: what answers.
        service: whose engine it is.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI calls."""
        unavailable_reason = self._service.unavailable_reason
        if (
            scope["type"] == "http"
            and scope["path"].startswith("/v1/")
            and unavailable_reason is not None
        ):
            await ErrorResponse(unavailable_reason)(scope, receive, send)
        else:
            await self._app(scope, receive, send)
