"""Client of ``bench serve``: HTTP/1.1 and server-sent events on asyncio's streams, nothing more.

It shares a machine with the server that it measures, so it does little: what has arrived is kept
with its time and read when the clock has stopped.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from layerbridge.errors import ConfigError

DONE = b"[DONE]"

# A lone CR at the end may be half of a CRLF.
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")
_PORTS = {"http": 80, "https": 443}


class LostError(ConnectionError):
    """The connection ended before the reply did."""


@dataclass
class Reply:
    """What a server answered.

    Attributes:
        status: of HTTP.
        headers: by their names in lower case.
        sent: when it was asked, on ``time.perf_counter``'s clock.
        body: of a reply that is no stream.
        events: the data of server-sent events, and when each came.
        ended: when all of it was there.
    """

    status: int
    headers: dict[str, str]
    sent: float
    body: bytes = b""
    events: list[tuple[float, bytes]] = field(default_factory=list)
    ended: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether a stream was told to its end."""
        return bool(self.events) and self.events[-1][1] == DONE

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    def chunks(self) -> list[tuple[float, Any]]:
        """What the events say, and when each came."""
        return [(at, json.loads(data)) for at, data in self.events if data != DONE]


# Called after each event; it may wait, or raise to leave.
OnEvent = Callable[[bytes], Awaitable[None]]


class Connection:
    """One connection to a server, kept from one request to the next.

    Args:
        url: ``http://host:port``, with a path before ``/v1`` if there is one.
        buffer: how much may arrive unread, in bytes; None leaves it to the system.
    """

    def __init__(self, url: str, *, buffer: int | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or parts.hostname is None:
            raise ConfigError(f"{url!r} is no address", allowed="http://HOST:PORT or https://HOST")
        self._host, self._name = parts.hostname, parts.netloc.rpartition("@")[2]
        self._port = parts.port or _PORTS[parts.scheme]
        self._is_tls = parts.scheme == "https"
        self._base = parts.path.rstrip("/").removesuffix("/v1")
        self._buffer = buffer
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def get(self, path: str) -> Reply:
        """GET.

        Raises:
            OSError: there is no connection, or it was lost.
        """
        return await self.send(self._head("GET", path, {}))

    async def post(self, path: str, body: Any, on_event: OnEvent | None = None) -> Reply:
        """POST; anything but bytes is sent as JSON.

        Raises:
            OSError: there is no connection, or it was lost.
        """
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        return await self.send(self._head("POST", path, headers) + content, on_event)

    async def send(self, request: bytes, on_event: OnEvent | None = None) -> Reply:
        """Any bytes at all, and the reply to them.

        Raises:
            OSError: there is no connection, or it was lost.
        """
        reader, writer = await self._open()
        is_kept = False
        try:
            sent = time.perf_counter()
            writer.write(request)
            await writer.drain()
            reply = await _head(reader, sent)
            await _body(reader, reply, on_event)
            is_kept = reply.headers.get("connection", "").lower() != "close"
        except asyncio.IncompleteReadError as error:
            raise LostError(f"the connection ended after {len(error.partial)} bytes") from None
        finally:
            if not is_kept:
                self.close()
        return reply

    def close(self) -> None:
        """Leaves, whatever is still to come."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()

    def _head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        lines = [f"{method} {self._base}{path} HTTP/1.1", f"Host: {self._name}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()
        if self._streams is None:
            how: dict[str, Any] = {"ssl": True} if self._is_tls else {}
            if self._buffer is None:
                where: dict[str, Any] = {"host": self._host, "port": self._port}
            else:
                where = {"sock": await self._narrow(), "limit": self._buffer}
                if self._is_tls:
                    how["server_hostname"] = self._host
            self._streams = await asyncio.open_connection(**where, **how)
        return self._streams

    async def _narrow(self) -> socket.socket:
        """A connected socket that takes little at a time."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        narrow = socket.socket(family, kind, protocol)
        try:
            assert self._buffer is not None
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
            narrow.setblocking(False)
            await loop.sock_connect(narrow, address)
        except BaseException:
            narrow.close()
            raise
        return narrow


async def _head(reader: asyncio.StreamReader, sent: float) -> Reply:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return Reply(int(lines[0].split(" ", 2)[1]), headers, sent)


async def _body(reader: asyncio.StreamReader, reply: Reply, on_event: OnEvent | None) -> None:
    if reply.headers.get("content-type", "").startswith("text/event-stream"):
        events = Events()
        async for part in _parts(reader, reply.headers):
            now = time.perf_counter()
            for data in events.feed(part):
                reply.events.append((now, data))
                if on_event is not None:
                    await on_event(data)
    else:
        reply.body = b"".join([part async for part in _parts(reader, reply.headers)])
    reply.ended = time.perf_counter()


async def _parts(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        size = 1
        while size:
            size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
            part = await reader.readexactly(size + 2)
            yield part[:-2]
    elif "content-length" in headers:
        yield await reader.readexactly(int(headers["content-length"]))
    else:
        yield await reader.read()


class Events:
    """Server-sent events, in whatever parts their bytes come."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, part: bytes) -> list[bytes]:
        """The data of the events that this part completes."""
        *lines, self._rest = _LINE_END.split(self._rest + part)
        complete = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                complete.append(b"\n".join(self._data))
                self._data = []
        return complete
