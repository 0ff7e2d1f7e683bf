"""The HTTP client of the load test, against a server that sends prepared bytes."""

import asyncio
import json

import pytest

from layerbridge.benchmarking.serve import sample_of
from layerbridge.benchmarking.serve_client import Connection, LostError, Reply
from layerbridge.errors import ConfigError

TOKEN = b'data: {"choices": [{"text": " word"}], "usage": null}\n\n'
USAGE = b'data: {"choices": [], "usage": {"completion_tokens": 5, "prompt_tokens": 1}}\n\n'
STREAM = 5 * TOKEN + USAGE + b"data: [DONE]\n\n"


def served(*replies):
    """Runs ``body(url, requests)`` with a server that answers each request with the next bytes."""

    def run(body):
        async def whole():
            left, requests = list(replies), []

            async def answer(reader, writer):
                try:
                    while left:
                        head = await reader.readuntil(b"\r\n\r\n")
                        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                        requests.append((head, await reader.readexactly(length)))
                        writer.write(left.pop(0))
                        if not left or left[0] is None:
                            left[:1] = []
                            break
                except asyncio.IncompleteReadError:
                    pass
                writer.close()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            async with server:
                return await asyncio.wait_for(body(f"http://127.0.0.1:{port}", requests), 20)

        return asyncio.run(whole())

    return run


def plain(body, status=b"200 OK"):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def streamed(size):
    """A stream in chunks of ``size`` bytes."""
    parts = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in [*parts, b""])


def test_a_connection_is_kept_and_opened_again_when_it_has_to_be():
    async def body(url, requests):
        async with Connection(url + "/base/v1") as connection:
            first = await connection.post("/v1/x", {"a": "ම"})
            kept = connection._streams
            second = await connection.post("/v1/x", b"raw")
            assert connection._streams is kept
            await asyncio.sleep(0.05)
            third = await connection.post("/v1/x", b"")
            assert connection._streams is not kept
        return requests, [first, second, third]

    requests, replies = served(
        plain(b"{}"), plain(b"[1]", b"429 No"), None, plain(b"", b"204 Nothing")
    )(body)
    assert [reply.status for reply in replies] == [200, 429, 204]
    assert [reply.body for reply in replies] == [b"{}", b"[1]", b""]
    assert requests[0][0].startswith(b"POST /base/v1/x HTTP/1.1\r\nHost: 127.0.0.1:")
    assert json.loads(requests[0][1]) == {"a": "ම"}


@pytest.mark.parametrize("size", [1, 7, len(TOKEN), 1000])
def test_a_stream_is_read_in_any_parts(size):
    async def body(url, _):
        async with Connection(url) as connection:
            return await connection.post("/v1/completions", {})

    reply = served(streamed(size))(body)
    sample = sample_of(reply)
    assert reply.is_whole
    assert (sample.tokens, sample.prompt_tokens, sample.text) == (5, 1, " word" * 5)
    assert 0 < sample.first_s <= sample.last_s <= sample.ended_s


def test_a_reply_that_is_cut_off_is_lost():
    async def body(url, _):
        async with Connection(url) as connection:
            with pytest.raises(LostError):
                await connection.post("/v1/completions", {})
            with pytest.raises(ConnectionRefusedError):
                await Connection("http://127.0.0.1:9").get("/")

    served(streamed(1000)[:-40])(body)


def test_errors_in_a_stream_are_errors():
    def of(*data, status=200):
        return sample_of(Reply(status, {}, 0.0, events=[(1.0, one) for one in data])).error

    chunk = b'{"choices": [{"text": "a"}], "usage": null}'
    assert of(status=429) == "429"
    assert of(chunk, b'{"error": {"code": "timeout"}}') == "timeout"
    assert of(chunk) == "cut off"
    assert sample_of(LostError()).error == "LostError"


def test_an_invalid_url():
    with pytest.raises(ConfigError, match="invalid URL 'localhost:8000'; allowed: http://HOST:"):
        Connection("localhost:8000")
