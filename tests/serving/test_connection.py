"""A client that leaves is noticed by a real server, and its work ends."""

import asyncio
import json
import socket
import threading

import httpx
import pytest
from fake_engine import FakeEngine

from layerbridge.serving.connection import EventStream, run_while_connected
from layerbridge.serving.limits import Limits

BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}]},
    "/v1/completions": {"prompt": ["a", "b"]},
    "/v1/classify": {"text": "a"},
    "/v1/layer_weights": {"text": "a"},
}


def connect(address, path, **settings):
    """Sends a request, and reads nothing yet."""
    host, _, port = address.removeprefix("http://").partition(":")
    body = json.dumps({"model": "demo", **BODIES[path], **settings}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection((host, int(port)), timeout=5)
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_before_there_is_an_answer(serve, eventually, path, stream):
    engine = FakeEngine(pause_s=30)
    answers = 2 if path == "/v1/completions" else 1
    with serve(engine) as address:
        connection = connect(address, path, stream=stream)
        eventually(lambda: engine.running == answers)
        connection.close()
        eventually(lambda: engine.running == 0)
        assert engine.left == answers
        metrics = httpx.get(f"{address}/metrics").text
        assert "layerbridge_gate_running 0.0" in metrics
        status = 200 if stream and "completions" in path else 499
        assert f'layerbridge_requests_total{{route="{path}",status="{status}"}} 1.0' in metrics


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_who_leaves_in_the_middle_of_a_stream(serve, eventually, path):
    engine = FakeEngine(write=lambda ask: "a" * 500, pause_s=0.01)
    with serve(engine) as address:
        connection = connect(address, path, stream=True, max_tokens=500)
        received = b""
        while b"data: " not in received:
            received += connection.recv(1000)
        connection.close()
        eventually(lambda: engine.running == 0)
        assert engine.left >= 1


def test_who_leaves_the_queue(serve, eventually):
    engine = FakeEngine(pause_s=30)
    with serve(engine, limits=Limits(concurrency=1, queue=1)) as address:
        path = "/v1/classify"
        first = connect(address, path)
        eventually(lambda: engine.running == 1)
        second = connect(address, path)
        waiting = "layerbridge_gate_waiting 1.0"
        eventually(lambda: waiting in httpx.get(f"{address}/metrics").text)
        refused = httpx.post(f"{address}{path}", json={"model": "demo", "text": "a"})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"] == {
            "message": "the server is busy; try again",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
        second.close()
        eventually(lambda: waiting not in httpx.get(f"{address}/metrics").text)
        first.close()
        eventually(lambda: engine.running == 0)
        assert engine.left == 1
        assert len(engine.questions) == 1


def test_running_requests_finish_while_new_ones_are_refused(serve, eventually):
    engine = FakeEngine(write=lambda ask: "a" * 20, pause_s=0.02)
    with serve(engine) as address:
        found = []

        def ask():
            body = {"model": "demo", **BODIES["/v1/completions"]}
            found.append(httpx.post(f"{address}/v1/completions", json=body))

        thread = threading.Thread(target=ask)
        thread.start()
        eventually(lambda: engine.running == 2)
    # Leaving `with` told the server to stop.
    thread.join(5)
    assert found[0].status_code == 200
    assert [choice["text"] for choice in found[0].json()["choices"]] == ["a" * 20] * 2
    assert engine.left == 0
    assert engine.stopped


def test_a_body_that_is_too_long_is_told_so(serve):
    with serve(FakeEngine(), limits=Limits(max_body_bytes=1000)) as address:
        for content in (b"x" * 5000, iter([b"x" * 500] * 10), b"x" * 5_000_000):
            with httpx.Client() as client:
                try:
                    reply = client.post(f"{address}/v1/classify", content=content)
                except httpx.TransportError:
                    # Who sends without end finds the connection closed.
                    assert len(content) == 5_000_000
                else:
                    assert reply.status_code == 413
                assert client.get(f"{address}/healthz").status_code == 200


def test_work_is_over_before_its_end_is_told():
    async def run():
        left = asyncio.Event()

        async def receive():
            await left.wait()
            return {"type": "http.disconnect"}

        async def work(result):
            if isinstance(result, Exception):
                raise result
            return result

        assert await run_while_connected(receive, work(5)) == 5
        with pytest.raises(KeyError):
            await run_while_connected(receive, work(KeyError("a")))

    asyncio.run(run())


def test_a_client_that_does_not_read_loses_its_place():
    closed = []

    async def events():
        yield b"data: 1\n\n"

    async def close():
        closed.append(True)

    async def forever(*_):
        await asyncio.sleep(60)

    asyncio.run(EventStream(events(), close, 0.01)({"type": "http"}, forever, forever))
    assert closed == [True]
