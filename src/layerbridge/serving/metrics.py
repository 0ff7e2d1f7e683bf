"""Metrics: what the server does, in Prometheus' words. One registry a server."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from layerbridge.serving.errors import ERROR_CODE

if TYPE_CHECKING:
    from layerbridge.serving.engine import Engine
    from layerbridge.serving.limits import Gate

_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
# Each path by itself would let a client make as many series as it likes.
_ROUTES = (
    "/",
    "/healthz",
    "/metrics",
    "/openapi.json",
    "/readyz",
    "/v1/chat/completions",
    "/v1/classify",
    "/v1/completions",
    "/v1/layer_weights",
    "/v1/models",
)
_FOLDERS = ("/page/", "/v1/models/")


class Metrics:
    """The server's counters.

    Give ``on_batch`` to the engine, and the whole to ``create_app``.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

        def histogram(
            name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()
        ) -> Histogram:
            full = f"layerbridge_{name}"
            return Histogram(full, text, labels, buckets=buckets, registry=self.registry)

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"layerbridge_{name}", text, labels, registry=self.registry)

        self.requests = counter("requests", "Requests that were answered.", ("route", "status"))
        self.request_seconds = histogram(
            "request_seconds", "From a request's arrival to its reply's end.", _SECONDS, ("route",)
        )
        self.errors = counter("errors", "Errors by the code that the client was told.", ("code",))
        self.batch_rows = histogram(
            "batch_rows", "Rows of each pass of the engine.", _ROWS, ("kind",)
        )
        self.first_token_seconds = histogram(
            "time_to_first_token_seconds", "From a request's arrival to a token.", _SECONDS
        )
        self.token_seconds = histogram(
            "time_per_output_token_seconds",
            "Of each answer, the mean time from one token to the next.",
            _TOKEN_SECONDS,
        )
        self.prompt_tokens = counter("prompt_tokens", "Positions of prompts that were read.")
        self.generated_tokens = counter("generated_tokens", "Tokens of answers.")

    def on_batch(self, kind: str, rows: int) -> None:
        """Counts a pass; any thread may call it. It is an ``engine.OnBatch``."""
        self.batch_rows.labels(kind).observe(rows)

    def watch(self, engine: Engine, gate: Gate) -> None:
        """Reads the load when it is asked for."""

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"layerbridge_{name}", text, registry=self.registry)

        gauge("engine_waiting", "Asked of the engine, and not begun.").set_function(
            lambda: engine.load.waiting
        )
        gauge("engine_running", "Being answered by the engine.").set_function(
            lambda: engine.load.running
        )
        gauge("gate_waiting", "Answers that wait for a place.").set_function(lambda: gate.waiting)
        gauge("gate_running", "Answers that have a place.").set_function(lambda: gate.running)
        gauge("ready", "Whether the engine answers.").set_function(
            lambda: float(engine.state == "ready")
        )

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class Counting:
    """ASGI: counts requests by route and status.

    Args:
        app: what answers them.
        metrics: where.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI calls."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived = perf_counter()
        # 499, as nginx says: the client left before there was a reply.
        status = 499

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = _route(scope["path"])
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(perf_counter() - arrived)
            if ERROR_CODE in scope:
                self._metrics.errors.labels(scope[ERROR_CODE]).inc()


def _route(path: str) -> str:
    if path in _ROUTES:
        return path
    return next((f"{folder}*" for folder in _FOLDERS if path.startswith(folder)), "other")
