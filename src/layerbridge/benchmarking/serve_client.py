"""A small HTTP/1.1 client for load tests, on asyncio's streams.

The client shares its machine with the server that it measures, so it must cost little: httpx takes
15 times as much CPU time for each streamed event. Events are stored with their time of arrival and
parsed after the clock has stopped.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from layerbridge.errors import ConfigError

DONE = b"[DONE]"

_PORTS = {"http": 80, "https": 443}


class LostError(ConnectionError):
    """The connection ended before the reply did."""


@dataclass
class Reply:
    """A server's reply: a body, or server-sent events with their times of arrival.

    Times are those of ``time.perf_counter``, header names are in lower case.
    """

    status: int
    headers: dict[str, str]
    sent: float
    body: bytes = b""
    events: list[tuple[float, bytes]] = field(default_factory=list)
    ended: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Returns whether a stream was received to its end."""
        return bool(self.events) and self.events[-1][1] == DONE

    def json(self) -> Any:
        """Returns the parsed body."""
        return json.loads(self.body)

    def chunks(self) -> list[tuple[float, Any]]:
        """Returns the parsed events, each with its time of arrival."""
        return [(at, json.loads(data)) for at, data in self.events if data != DONE]


# Called after each event; may wait, or raise to abort.
OnEvent = Callable[[bytes], Awaitable[None]]


class Connection:
    """A connection to a server, kept open between requests.

    Args:
        url: ``http://host:port``, optionally with a path before ``/v1``.
        **options: of ``asyncio.open_connection``, such as a socket.
    """

    def __init__(self, url: str, **options: Any) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or parts.hostname is None:
            raise ConfigError(f"invalid URL {url!r}", allowed="http://HOST:PORT or https://HOST")
        self._base = parts.path.rstrip("/").removesuffix("/v1")
        self._host = parts.netloc.rpartition("@")[2]
        port = parts.port or _PORTS[parts.scheme]
        tls = {"ssl": True} if parts.scheme == "https" else {}
        self._options = {"host": parts.hostname, "port": port, **tls, **options}
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def get(self, path: str) -> Reply:
        """Sends a GET request; see ``send``."""
        return await self.send(self._request("GET", path))

    async def post(self, path: str, body: Any, on_event: OnEvent | None = None) -> Reply:
        """Sends a POST request with a body of bytes or else of JSON; see ``send``."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.send(self._request("POST", path, content), on_event)

    async def send(self, request: bytes, on_event: OnEvent | None = None) -> Reply:
        """Sends any bytes and returns the reply.

        Raises:
            OSError: the connection was refused or lost.
        """
        if self._streams is not None and self._streams[0].at_eof():
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(**self._options)
        reader, writer = self._streams
        is_kept = False
        try:
            sent = time.perf_counter()
            writer.write(request)
            await writer.drain()
            reply = await _read_head(reader, sent)
            await _read_body(reader, reply, on_event)
            is_kept = reply.headers.get("connection", "").lower() != "close"
        except asyncio.IncompleteReadError as error:
            raise LostError(f"the connection ended after {len(error.partial)} bytes") from None
        finally:
            if not is_kept:
                self.close()
        return reply

    def close(self) -> None:
        """Drops the connection without waiting for anything."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    def _request(self, method: str, path: str, content: bytes = b"") -> bytes:
        head = f"{method} {self._base}{path} HTTP/1.1\r\nHost: {self._host}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        return head.encode() + content


async def _read_head(reader: asyncio.StreamReader, sent: float) -> Reply:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:-2])
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Reply(int(lines[0].split(" ", 2)[1]), headers, sent)


async def _read_body(reader: asyncio.StreamReader, reply: Reply, on_event: OnEvent | None) -> None:
    is_stream = reply.headers.get("content-type", "").startswith("text/event-stream")
    async for part in _parts(reader, reply.headers):
        now = time.perf_counter()
        reply.body += part
        if is_stream:
            *events, reply.body = reply.body.split(b"\n\n")
            for event in events:
                data = event.removeprefix(b"data: ")
                reply.events.append((now, data))
                if on_event is not None:
                    await on_event(data)
    reply.ended = time.perf_counter()


async def _parts(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        size = 1
        while size:
            size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
            yield (await reader.readexactly(size + 2))[:-2]
    elif "content-length" in headers:
        yield await reader.readexactly(int(headers["content-length"]))
    else:
        yield await reader.read()
