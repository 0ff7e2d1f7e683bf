"""Prometheus metrics, in one registry per server."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

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
# Labels. Raw paths would let a client create any number of series.
_ROUTES = (
    *("/", "/healthz", "/metrics", "/openapi.json", "/readyz", "/v1/models"),
    *("/v1/chat/completions", "/v1/completions", "/v1/classify", "/v1/layer_weights"),
)
_FOLDERS = ("/page/", "/v1/models/")


class Metrics:
    """A server's metrics. Pass ``on_batch`` to the engine and the object to ``create_app``."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

        common: dict[str, Any] = {"namespace": "layerbridge", "registry": self.registry}
        self._common = common
        self.requests = Counter("requests", "Finished requests.", ("route", "status"), **common)
        self.errors = Counter("errors", "Errors by code.", ("code",), **common)
        self.prompt_tokens = Counter("prompt_tokens", "Positions of prompts.", **common)
        self.generated_tokens = Counter("generated_tokens", "Generated tokens.", **common)
        self.batch_rows = Histogram(
            "batch_rows", "Rows of each batch of the engine.", ("kind",), buckets=_ROWS, **common
        )
        self.request_seconds = Histogram(
            "request_seconds",
            "Time from request to end of response.",
            ("route",),
            buckets=_SECONDS,
            **common,
        )
        self.first_token_seconds = Histogram(
            "time_to_first_token_seconds",
            "Time from request to first token.",
            buckets=_SECONDS,
            **common,
        )
        self.token_seconds = Histogram(
            "time_per_output_token_seconds",
            "Mean time between the tokens of a completion.",
            buckets=_TOKEN_SECONDS,
            **common,
        )

    def on_batch(self, kind: str, rows: int) -> None:
        """Counts a batch (an ``engine.OnBatch``); callable from any thread."""
        self.batch_rows.labels(kind).observe(rows)

    def watch(self, engine: Engine, gate: Gate) -> None:
        """Adds gauges that read the engine's and the gate's load when scraped."""
        for name, text, value in (
            ("engine_waiting", "Requests waiting in the engine.", lambda: engine.load.waiting),
            ("engine_running", "Requests running in the engine.", lambda: engine.load.running),
            ("gate_waiting", "Completions waiting for a slot.", lambda: gate.waiting),
            ("gate_running", "Completions with a slot.", lambda: gate.running),
            ("engine_restarts", "Restarts of the engine.", lambda: getattr(engine, "restarts", 0)),
            ("ready", "Whether the engine is ready.", lambda: float(engine.state == "ready")),
        ):
            Gauge(name, text, **self._common).set_function(value)

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' format."""
        return generate_latest(self.registry)


class MetricsMiddleware:
    """ASGI middleware that counts requests by route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        status = 499  # as in nginx: the client disconnected before the response

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        finally:
            route = _route(scope["path"])
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(perf_counter() - started)
            if ERROR_CODE in scope:
                self._metrics.errors.labels(scope[ERROR_CODE]).inc()


def _route(path: str) -> str:
    if path in _ROUTES:
        return path
    return next((f"{folder}*" for folder in _FOLDERS if path.startswith(folder)), "other")
