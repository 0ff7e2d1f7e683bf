"""Client connections: work that is cancelled when the client disconnects, and event streams.

An ASGI server reports a disconnect only to whoever awaits its next message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

T = TypeVar("T")


async def run_while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Awaits the work for a request whose body has been read.

    If the client disconnects, cancels it and raises ``ClientDisconnect``.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(StreamingResponse):
    """Server-sent events.

    Args:
        events: encoded events.
        close: called at the end in any case, even if nothing could be sent.
        timeout_s: bounds how long a client that does not read can keep its slot.
    """

    def __init__(
        self, events: AsyncIterator[bytes], close: Callable[[], Awaitable[None]], timeout_s: float
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._close = close
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events."""
        try:
            with suppress(ClientDisconnect, TimeoutError):
                async with asyncio.timeout(self._timeout_s):
                    await run_while_connected(receive, self.stream_response(send))
        finally:
            await self._close()
