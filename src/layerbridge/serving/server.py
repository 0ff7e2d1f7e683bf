"""Server: a port, the app behind it, and how both come to an end.

The first SIGTERM or SIGINT drains: what is running ends, what comes is told to go elsewhere. The
second one ends it at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from dataclasses import dataclass
from types import FrameType

import uvicorn
from fastapi import FastAPI

from layerbridge.errors import ConfigError, LayerBridgeError
from layerbridge.progress import say
from layerbridge.serving.engine import EngineDown
from layerbridge.serving.supervised import Supervised

LOG = logging.getLogger(__name__)

LOOK_S = 0.05
# For the last bytes to clients that read slowly.
GRACE_S = 5


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host: loopback unless told otherwise: whoever reaches the port may ask.
        port: 0 takes a free one.
    """

    host: str = "127.0.0.1"
    port: int = 8000

    def listen(self) -> socket.socket:
        """The port, taken.

        Raises:
            ConfigError: it cannot be had.
        """
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            return socket.create_server((self.host, self.port), family=family, backlog=2048)
        except (OSError, OverflowError) as error:
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if number and number > 0 else str(error)
            raise ConfigError(
                f"cannot listen on {self.host}:{self.port} ({reason})",
                allowed="a host of this machine and a free port",
                hint="--port 0 takes a free one",
            ) from None


def serve(
    app: FastAPI, engine: Supervised, address: Address | None = None, *, drain_s: float = 30.0
) -> None:
    """Serves until it is told to end.

    Args:
        app: of ``create_app``.
        engine: the app's.
        address: where.
        drain_s: how long what is running may take to end, at most.

    Raises:
        ConfigError: the port cannot be had.
        LayerBridgeError: as the engine's start does.
    """
    listening = (address or Address()).listen()
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    say(f"{url} · reading the models …")
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
    if isinstance(engine.error, EngineDown):
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
        self._at_once = False

    async def main_loop(self) -> None:
        """As uvicorn's, with somebody to say when it is ready, and when it cannot be."""
        watch = asyncio.create_task(self._watch())
        try:
            await super().main_loop()
        finally:
            watch.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: drains at first, then ends."""
        self._at_once = self._draining
        self._draining = True

    async def _watch(self) -> None:
        while self._engine.state == "starting" and not self._draining:
            await asyncio.sleep(LOOK_S)
        if self._engine.state == "ready":
            say(f"ready: {', '.join(self._engine.bridges)} · {self._engine.name} engine")
            # For whoever started it and waits.
            print(self._url, file=sys.stdout, flush=True)  # noqa: T201
        while not self._draining and self._engine.error is None:
            await asyncio.sleep(LOOK_S)
        if self._engine.error is None:
            await self._drain()
        self.should_exit = True

    async def _drain(self) -> None:
        self._app.state.drain = True
        gate = self._app.state.service.gate
        if gate.running:
            say(f"ending: {gate.running} answers are still running")
        until = asyncio.get_running_loop().time() + self._drain_s
        while gate.running and asyncio.get_running_loop().time() < until and not self._at_once:
            await asyncio.sleep(LOOK_S)
        if gate.running:
            # They are told so, and do not just break off.
            await self._engine.stop()
        # A last look around for those who ask just now: they are told where they stand.
        await asyncio.sleep(LOOK_S)
