"""Server: a port, the app behind it, and how both shut down.

The first SIGTERM or SIGINT drains: running requests finish, new ones are refused. The second one
stops at once, and the third does not even wait for the engine. Whatever hangs, the process ends.
"""

from __future__ import annotations

import asyncio
import atexit
import ipaddress
import logging
import math
import multiprocessing
import os
import socket
import sys
import threading
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from layerbridge.errors import ConfigError, LayerBridgeError
from layerbridge.progress import say
from layerbridge.serving.engine import THREAD, EngineDownError
from layerbridge.serving.protocol import Protocol
from layerbridge.serving.supervised import Supervised

LOG = logging.getLogger(__name__)

POLL_S = 0.05
# For the last bytes to slow clients.
GRACE_S = 5
# How long after the drain, or after a failure, everything may take to end.
EXIT_S = 40.0
# Exit code if it takes longer; as of a process that is killed.
KILLED = 137
# Signals: one drains, two stop, three kill.
KILLING = 3


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


def configuration(app: FastAPI) -> uvicorn.Config:
    """Returns how uvicorn runs an app of ``create_app``."""
    return uvicorn.Config(
        app,
        http=Protocol,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=65,
        timeout_graceful_shutdown=GRACE_S,
    )


def serve(
    app: FastAPI,
    engine: Supervised,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    drain_s: float = 30.0,
    has_keys: bool = False,
) -> None:
    """Serves an app with its engine until a signal or until the engine is given up.

    Args:
        app: of ``create_app``.
        engine: the app's.
        host: loopback by default, as the API is open to everyone who reaches the port.
        port: 0 for a free one.
        drain_s: how long running requests may take to finish.
        has_keys: whether the app asks for keys; if not, another host than loopback is warned of.

    Raises:
        LayerBridgeError: the port is not available, or the engine failed to start or for good.
    """
    listening = listen(host, port)
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if not has_keys and not ipaddress.ip_address(host).is_loopback:
        _announce(
            f"warning: no API keys are set: anyone who can reach {url} can use it; next: "
            "--api-key-file FILE, or --host 127.0.0.1"
        )
    _announce(f"{url} · loading the models …")
    server = _Server(app, engine, url, drain_s)
    error: BaseException | None = None
    try:
        server.run(sockets=[listening])
    finally:
        listening.close()
        server.last_resort.cancel()
        error = server.error or engine.error
        if any(thread.name.startswith(THREAD) for thread in threading.enumerate()):
            # Python cannot end a thread that is in a step, and may crash if it tries.
            _leave_at_exit(0 if error is None else 1)
    if isinstance(error, EngineDownError):
        raise LayerBridgeError(str(error)) from error
    if error is not None:
        raise error


class _Server(uvicorn.Server):
    """Runs an app, watches its engine, and ends with either.

    Attributes:
        error: why it ended by itself, if the engine is not the reason.
        last_resort: ends the process if the shutdown takes too long.
    """

    def __init__(self, app: FastAPI, engine: Supervised, url: str, drain_s: float) -> None:
        super().__init__(configuration(app))
        self.error: BaseException | None = None
        self.last_resort = _LastResort()
        self._app = app
        self._engine = engine
        self._url = url
        self._drain_s = drain_s
        self._signals = 0

    async def main_loop(self) -> None:
        """Runs uvicorn's loop and watches the engine."""
        watch = asyncio.create_task(self._watch())
        watch.add_done_callback(self._end)
        try:
            await super().main_loop()
        finally:
            watch.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shuts down, in bounded time."""
        self.last_resort.within(EXIT_S)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drains on the first signal, stops on the second, kills on the third."""
        self._signals += 1
        if self._signals == 1:
            self.last_resort.within(self._drain_s + EXIT_S)
        elif self._signals >= KILLING:
            self.last_resort.within(0.0, 128 + sig)

    def _end(self, watch: asyncio.Task[None]) -> None:
        """Ends the server with its watcher, whatever that died of: without it no signal counts."""
        self.should_exit = True
        if not watch.cancelled() and watch.exception() is not None:
            self.error = watch.exception()
            LOG.error("the server stops", exc_info=self.error)

    async def _watch(self) -> None:
        while self._engine.state == "starting" and not self._signals:
            await asyncio.sleep(POLL_S)
        if self._engine.state == "ready":
            _announce(f"ready: {', '.join(self._engine.bridges)} · {self._engine.name} engine")
            _print(self._url)
        while not self._signals and self._engine.error is None:
            await asyncio.sleep(POLL_S)
        if self._engine.error is None:
            await self._drain()

    async def _drain(self) -> None:
        self._app.state.drain = True
        gate = self._app.state.service.gate
        if gate.running:
            _announce(f"shutting down: {gate.running} completions are still running")
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._drain_s
        while gate.running and clock() < deadline and self._signals < 2:
            await asyncio.sleep(POLL_S)
        if gate.running:
            # So that their clients get an error, not a broken connection.
            await self._engine.stop()
        # Requests that arrive just now get their 503.
        await asyncio.sleep(POLL_S)


class _LastResort:
    """A thread that kills the process when its time is over.

    Setting the time takes no lock, so that a signal handler can do it; it can only be shortened.
    """

    def __init__(self) -> None:
        self._deadline = math.inf
        self._code = KILLED
        self._is_over = False
        threading.Thread(target=self._run, name="last resort", daemon=True).start()

    def within(self, seconds: float, code: int = KILLED) -> None:
        """Kills the process after so many seconds."""
        deadline = time.monotonic() + seconds
        if deadline < self._deadline:
            self._deadline, self._code = deadline, code

    def cancel(self) -> None:
        """Lets the process live."""
        self._is_over = True

    def _run(self) -> None:
        while not self._is_over:
            time.sleep(POLL_S)
            if time.monotonic() > self._deadline and not self._is_over:
                LOG.critical("shutdown is taking too long; killing the process")
                _leave(self._code)


def _leave_at_exit(code: int) -> None:
    atexit.register(_leave, code)


def _leave(code: int) -> None:
    for child in multiprocessing.active_children():
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # its reader has gone
            continue
    os._exit(code)


def _announce(line: str) -> None:
    """Says a line; without a reader the server goes on."""
    try:
        say(line)
    except (OSError, ValueError):
        return


def _print(url: str) -> None:
    """Prints the address, for programs that wait for the server; as ``_announce``."""
    try:
        print(url, file=sys.stdout, flush=True)  # noqa: T201
    except BrokenPipeError:
        # What is left in the buffer would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
