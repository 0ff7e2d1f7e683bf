"""Processes that a benchmark starts, waits for and ends; ``layerbridge serve`` above all."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress

from layerbridge.errors import ConfigError

# vLLM may have to compile first.
PATIENCE_S = 900.0
GOODBYE_S = 30.0
_LONGEST_LINE = 2**26
_TOLD_LINES = 12


class Child:
    """A process that says on stdout when it is ready.

    Args:
        command: and its arguments.
        is_ready: whether a line of stdout says so; others, such as a library's warnings, are
            passed over.
        ends_with_stdin: whether it ends by itself when nothing more is to come on stdin.

    Attributes:
        process: while it runs.
        said: the line.
        startup_s: until it was ready.
    """

    def __init__(
        self,
        command: Sequence[str],
        is_ready: Callable[[str], bool],
        *,
        ends_with_stdin: bool = False,
    ) -> None:
        self._command = command
        self._ends_with_stdin = ends_with_stdin
        self._is_ready = is_ready
        self._reading: asyncio.Task[None] | None = None
        self.process: Process
        self.said = ""
        self.startup_s = 0.0

    async def __aenter__(self) -> Child:
        started = time.perf_counter()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed at the end
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, stderr=self._errors, limit=_LONGEST_LINE
            )
        except OSError as error:
            self._errors.close()
            raise ConfigError(
                f"{self._command[0]!r} cannot be run ({error.strerror})",
                allowed="a Python interpreter",
            ) from None
        try:
            async with asyncio.timeout(PATIENCE_S):
                self.said = await self.line()
        except BaseException:
            await self._end()
            raise
        self.startup_s = time.perf_counter() - started
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def line(self) -> str:
        """The next line of the kind that says it is ready.

        Raises:
            ConfigError: it has ended.
        """
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            told = line.decode(errors="replace").strip()
            if self._is_ready(told):
                return told
        await self.process.wait()
        raise ConfigError(
            f"`{' '.join(self._command)}` ended with exit code {self.process.returncode}: "
            f"{self.errors()}"
        )

    def listen_no_more(self) -> None:
        """Lets it say what it likes: a pipe that nobody reads would stop it."""
        self._reading = asyncio.create_task(self._pass_over())

    async def write(self, line: str) -> None:
        """A line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        await self.process.stdin.drain()

    def errors(self) -> str:
        """The end of what it said on stderr; the line that says what is wrong, if there is one."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return told[-1] if told else "\n".join(lines[-_TOLD_LINES:])

    async def stop(self, patience_s: float = GOODBYE_S) -> int:
        """Ends it, in peace if it will; its exit code."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(patience_s):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
        return await self.process.wait()

    async def _pass_over(self) -> None:
        assert self.process.stdout is not None
        while await self.process.stdout.read(2**16):
            pass

    async def _end(self) -> None:
        if self._reading is None:
            self.listen_no_more()
        assert self.process.stdin is not None
        assert self._reading is not None
        self.process.stdin.close()
        if self._ends_with_stdin:
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self.process.wait()
        await self.stop()
        # Whoever it started may hold its stdout for longer than it lives.
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._errors.close()


class Server(Child):
    """``layerbridge serve`` on a free port.

    Args:
        arguments: of the verb.
        python: an interpreter with layerbridge; None takes this one.
    """

    def __init__(self, arguments: Sequence[str], python: str | None = None) -> None:
        command = [python or sys.executable, "-m", "layerbridge", "serve", *arguments]
        super().__init__([*command, "--port", "0"], lambda line: line.startswith("http://"))

    async def __aenter__(self) -> Server:
        await super().__aenter__()
        self.listen_no_more()
        return self

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.said


async def output_of(command: Sequence[str]) -> str:
    """What a short command prints; nothing if it fails."""
    try:
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL)
    except OSError:
        return ""
    out, _ = await process.communicate()
    return out.decode(errors="replace") if process.returncode == 0 else ""
