"""A server that has its answer ready: how fast can the client of ``bench serve`` read?

``python -m layerbridge.benchmarking.serve_canned TOKENS`` answers anything it is sent with so many
events of the size that the real one sends.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys

_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")


def answer(tokens: int) -> list[bytes]:
    """The reply, in the parts in which it is sent: the head, each event, the end."""
    chunk = {
        "id": "cmpl-00000000000000000000000000000000",
        "object": "text_completion",
        "created": 0,
        "model": "canned",
        "choices": [{"index": 0, "text": " word", "logprobs": None, "finish_reason": None}],
        "usage": None,
    }
    counted = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
    last = {**chunk, "choices": [], "usage": counted}
    events = [*[json.dumps(chunk)] * tokens, json.dumps(last), "[DONE]"]
    data = [f"data: {event}\n\n".encode() for event in events]
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return [head, *(b"%x\r\n%s\r\n" % (len(event), event) for event in data), b"0\r\n\r\n"]


async def main(tokens: int) -> None:
    """Serves until it is ended."""
    parts = answer(tokens)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                await reader.readexactly(int(length[1]) if length else 0)
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)  # each event by itself, as they come from a model
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
