"""Protocol: HTTP/1.1 connections with bounds on their number, their headers and their patience.

uvicorn's own bounds do not cover a client that connects and sends nothing, or a header forever, and
its faster parser does not bound the headers' size.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from layerbridge.serving.errors import unavailable
from layerbridge.serving.limits import Limits

# Beyond the limit only probes are answered, so that a crowd does not look like a dead server, and
# that on this many connections.
PROBES = ("/healthz", "/readyz", "/metrics")
PROBE_CONNECTIONS = 32


class Protocol(H11Protocol):
    """One connection. The limits are those of ``app.state.service``."""

    def __init__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits: Limits = config.app.state.service.limits
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accepts or refuses a connection, and waits for the first header."""
        super().connection_made(transport)
        excess = len(self.connections) - self._limits.max_connections
        if excess > PROBE_CONNECTIONS:
            transport.close()
            return
        if excess > 0:
            self.app = _OnlyProbes(self.app)
        self._watch_header()

    def data_received(self, data: bytes) -> None:
        """Reads on."""
        super().data_received(data)
        self._watch_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._stop_watching()
        super().connection_lost(exc)

    def _watch_header(self) -> None:
        """Gives a client so much time to send a whole header, however many pieces it has."""
        if self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(
                self._limits.header_timeout_s, self.transport.close
            )

    def _stop_watching(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


class _OnlyProbes:
    """ASGI app that answers probes and refuses all else."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        error = unavailable("there are too many connections; try again", "too_many_connections", 1)
        body = json.dumps(error.body.model_dump()).encode()
        headers = {"Content-Type": "application/json", "Connection": "close", **error.headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        raw.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": error.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})
