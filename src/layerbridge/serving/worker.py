"""Worker: a thread that runs calls in order, and that no ending process waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from layerbridge.serving.engine import THREAD, EngineDownError, resolve

_Call = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class Worker:
    """A thread of its own. Python would wait for one of an executor, even if it hangs."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"{THREAD} {name}", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether calls are still run."""
        return self._thread.is_alive()

    async def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a call after those before it; returns its result or raises its exception."""
        if not self.is_alive:
            raise EngineDownError(f"the thread {self._thread.name!r} has ended")
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._calls.put((loop, future, lambda: call(*arguments)))
        return await future

    def stop(self) -> None:
        """Ends the thread after the calls before."""
        self._calls.put(None)

    def _run(self) -> None:
        while (entry := self._calls.get()) is not None:
            loop, future, call = entry
            if future.cancelled():
                continue
            outcome: Any
            try:
                outcome = call()
            except BaseException as error:
                outcome = error
            try:
                loop.call_soon_threadsafe(resolve, future, outcome)
            except RuntimeError:  # the loop is closed, so nobody is waiting
                continue
