"""Server: a port, the app behind it, and how both shut down.

The first SIGTERM or SIGINT drains: running requests finish, new ones are refused. The second one
stops at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from layerbridge.errors import ConfigError, LayerBridgeError
from layerbridge.progress import say
from layerbridge.serving.engine import EngineDownError
from layerbridge.serving.supervised import Supervised

POLL_S = 0.05
# For the last bytes to slow clients.
GRACE_S = 5


def listen(host: str, port: int) -> socket.socket:
    """Opens a port, 0 for a free one; raises ``ConfigError`` if it is not available."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number and number > 0 else str(error)
        raise ConfigError(
            f"cannot listen on {host}:{port} ({reason})",
            allowed="a host of this machine and a free port",
            hint="use --port 0 for a free one",
        ) from None


def serve(
    app: FastAPI,
    engine: Supervised,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    drain_s: float = 30.0,
) -> None:
    """Serves an app with its engine until a signal or until the engine fails to start.

    Args:
        app: of ``create_app``.
        engine: the app's.
        host: loopback by default, as the API is open to everyone who reaches the port.
        port: 0 for a free one.
        drain_s: how long running requests may take to finish.

    Raises:
        LayerBridgeError: the port is not available, or the engine failed to start.
    """
    listening = listen(host, port)
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    say(f"{url} · loading the models …")
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=65,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config, app, engine, url, drain_s)
    try:
        server.run(sockets=[listening])
    finally:
        listening.close()
    if isinstance(engine.error, EngineDownError):
        raise LayerBridgeError(str(engine.error)) from engine.error
    if engine.error is not None:
        raise engine.error


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, app: FastAPI, engine: Supervised, url: str, drain_s: float
    ) -> None:
        super().__init__(config)
        self._app = app
        self._engine = engine
        self._url = url
        self._drain_s = drain_s
        self._draining = False
        self._stop_now = False

    async def main_loop(self) -> None:
        """Runs uvicorn's loop and watches the engine."""
        watch = asyncio.create_task(self._watch())
        try:
            await super().main_loop()
        finally:
            watch.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drains on the first signal, stops on the second."""
        self._stop_now = self._draining
        self._draining = True

    async def _watch(self) -> None:
        while self._engine.state == "starting" and not self._draining:
            await asyncio.sleep(POLL_S)
        if self._engine.state == "ready":
            say(f"ready: {', '.join(self._engine.bridges)} · {self._engine.name} engine")
            # For programs that wait for the server.
            print(self._url, file=sys.stdout, flush=True)  # noqa: T201
        while not self._draining and self._engine.error is None:
            await asyncio.sleep(POLL_S)
        if self._engine.error is None:
            await self._drain()
        self.should_exit = True

    async def _drain(self) -> None:
        self._app.state.drain = True
        gate = self._app.state.service.gate
        if gate.running:
            say(f"shutting down: {gate.running} completions are still running")
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._drain_s
        while gate.running and clock() < deadline and not self._stop_now:
            await asyncio.sleep(POLL_S)
        if gate.running:
            # So that their clients get an error, not a broken connection.
            await self._engine.stop()
        # Requests that arrive just now get their 503.
        await asyncio.sleep(POLL_S)
