"""Child processes of a benchmark, above all ``layerbridge serve``."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence

from layerbridge.errors import ConfigError

# vLLM may have to compile first.
STARTUP_TIMEOUT_S = 900.0
SHUTDOWN_TIMEOUT_S = 30.0
_LINE_LIMIT = 2**26
_ERROR_LINES = 12


class Child:
    """A process that prints a line when it is ready, after ``startup_s`` seconds.

    Args:
        command: the program and its arguments.
        ready: how that line begins. Other lines, such as warnings of libraries, are skipped.
        ends_with_stdin: whether the process ends by itself when its stdin is closed.
    """

    process: Process
    ready_line: str
    startup_s: float

    def __init__(
        self, command: Sequence[str], ready: str, *, ends_with_stdin: bool = False
    ) -> None:
        self._command = command
        self._ready = ready
        self._ends_with_stdin = ends_with_stdin

    async def __aenter__(self) -> Child:
        started = time.perf_counter()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __aexit__
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, stderr=self._errors, limit=_LINE_LIMIT
            )
        except OSError as error:
            self._errors.close()
            raise ConfigError(
                f"cannot run {self._command[0]!r} ({error.strerror})",
                allowed="a Python interpreter",
            ) from None
        try:
            async with asyncio.timeout(STARTUP_TIMEOUT_S):
                self.ready_line = await self.line()
        except BaseException:
            await self.__aexit__()
            raise
        self.startup_s = time.perf_counter() - started
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        if self.process.returncode is None:
            if not self._ends_with_stdin:
                self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), SHUTDOWN_TIMEOUT_S)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        self._errors.close()

    async def line(self) -> str:
        """Returns the next line that begins like the ready line.

        Raises:
            ConfigError: the process has ended.
        """
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            line = raw.decode(errors="replace").strip()
            if line.startswith(self._ready):
                return line
        code = await self.process.wait()
        raise ConfigError(f"`{' '.join(self._command)}` exited with code {code}: {self.errors()}")

    async def write(self, line: str) -> None:
        """Writes a line to the process's stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        await self.process.stdin.drain()

    def errors(self) -> str:
        """Returns the error message that the process printed, else the end of its stderr."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        messages = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return messages[-1] if messages else "\n".join(lines[-_ERROR_LINES:])


class Server(Child):
    """``layerbridge serve`` with these arguments on a free port, by default in this interpreter."""

    def __init__(self, arguments: Sequence[str], python: str | None = None) -> None:
        command = [python or sys.executable, "-m", "layerbridge", "serve", *arguments]
        super().__init__([*command, "--port", "0"], "http://")
        self._drain: asyncio.Task[bytes] | None = None

    async def __aenter__(self) -> Server:
        await super().__aenter__()
        assert self.process.stdout is not None
        # A full pipe would block the server.
        self._drain = asyncio.create_task(self.process.stdout.read())
        return self

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        # A grandchild may hold the pipe open.
        if self._drain is not None:
            self._drain.cancel()

    @property
    def url(self) -> str:
        """Returns the address that the server listens on."""
        return self.ready_line
