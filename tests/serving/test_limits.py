import asyncio

import pytest
from fake_engine import FakeEngine

from layerbridge.errors import ConfigError
from layerbridge.serving.errors import ApiError, ErrorMiddleware
from layerbridge.serving.limits import BodyLimitMiddleware, Gate, Limits, time_limit

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "a"}]}


def error(reply):
    return reply.status_code, reply.json()["error"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_n": 0}, "max_n=0; allowed: 1 or more"),
        ({"queue": -1}, "queue=-1; allowed: 0 or more"),
        ({"timeout_s": 0}, "timeout_s=0; allowed: more than 0"),
    ],
)
def test_limits_that_allow_nothing(settings, message):
    with pytest.raises(ConfigError) as caught:
        Limits(**settings)
    assert str(caught.value) == message
    assert Limits(queue=0, timeout_s=0.5).timeout_s == 0.5


@pytest.mark.parametrize(
    ("path", "body", "param", "message"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "12345678901"}]},
            "messages",
            "messages: 11 characters; allowed: at most 10",
        ),
        (
            "/v1/chat/completions",
            {"instruction": "x" * 11},
            "instruction",
            "instruction: 11 characters; allowed: at most 10",
        ),
        ("/v1/chat/completions", {"n": 3}, "n", "n: 3 answers; allowed: at most 2"),
        (
            "/v1/chat/completions",
            {"max_tokens": 21},
            "max_tokens",
            "max_tokens: 21 tokens; allowed: at most 20",
        ),
        (
            "/v1/chat/completions",
            {"max_tokens": 1, "max_completion_tokens": 21},
            "max_completion_tokens",
            "max_completion_tokens: 21 tokens; allowed: at most 20",
        ),
        (
            "/v1/completions",
            {"prompt": ["a", "b" * 11]},
            "prompt",
            "prompt: 11 characters; allowed: at most 10",
        ),
        (
            "/v1/completions",
            {"prompt": ["a", "b", "c"]},
            "prompt",
            "prompt: 3 prompts; allowed: at most 2",
        ),
        (
            "/v1/classify",
            {"text": "a", "options": ["a", "b", "c"]},
            "options",
            "options: 3 options; allowed: at most 2",
        ),
        (
            "/v1/classify",
            {"text": "a", "options": ["a", "bbbbbb"]},
            "options[1]",
            "options[1]: 6 characters; allowed: at most 5",
        ),
        (
            "/v1/classify",
            {"text": "a", "options": ["aaaaa", "bbbb"]},
            "options",
            "options: 9 characters in all; allowed: at most 8",
        ),
        (
            "/v1/completions",
            {"prompt": ["a", "b"], "n": 2},
            "prompt",
            "prompt: 4 answers in all; allowed: at most 3",
        ),
        ("/v1/classify", {"text": "a" * 11}, "text", "text: 11 characters; allowed: at most 10"),
        (
            "/v1/layer_weights",
            {"text": "a" * 11},
            "text",
            "text: 11 characters; allowed: at most 10",
        ),
    ],
)
def test_what_a_request_breaks_by_itself(client, path, body, param, message):
    limits = Limits(
        **{"max_text_chars": 10, "max_prompts": 2, "max_options": 2, "max_option_chars": 5},
        **{"max_options_chars": 8, "max_tokens": 20, "max_n": 2, "concurrency": 3, "queue": 1},
    )
    reply = client(limits=limits).post(path, json={**CHAT, **body})
    told = {"message": message, "type": "invalid_request_error", "param": param, "code": "too_many"}
    assert error(reply) == (400, told)


@pytest.mark.parametrize(("concurrency", "queue"), [(2, 6), (6, 2), (6, 0)])
def test_what_can_never_run_nor_wait_is_refused_at_once(client, concurrency, queue):
    """A 429 would say that it may be tried again."""
    client = client(limits=Limits(concurrency=concurrency, queue=queue))
    for count, status in ((6, 200), (7, 400)):
        many = {"model": "demo", "prompt": ["a"] * count}
        for body in (many, {**many, "stream": True}):
            reply = client.post("/v1/completions", json=body)
            assert reply.status_code == status
    assert reply.json()["error"]["code"] == "too_many"
    reply = client.post("/v1/chat/completions", json={**CHAT, "n": 7})
    assert error(reply)[1]["message"] == "n: 7 answers in all; allowed: at most 6"


@pytest.mark.parametrize(
    ("options", "weight"),
    [
        (None, 1),
        (["a", "b"], 1),
        ([str(number) for number in range(32)], 1),
        ([str(number) for number in range(33)], 2),
        (["a" * 500, "b" * 500], 1),
        (["a" * 500, "b" * 500, "c" * 500], 2),
        ([chr(97 + number) * 500 for number in range(26)], 13),
    ],
)
def test_options_are_weighed_at_the_gate(client, options, weight):
    engine, held = FakeEngine(), []
    client = client(engine, limits=Limits(concurrency=20))
    gate, classify = client.app.state.service.gate, engine.classify

    async def watched(question):
        held.append(gate.running)
        return await classify(question)

    engine.classify = watched
    body = {"model": "demo", "text": "a", "options": options}
    assert client.post("/v1/classify", json=body).status_code == 200
    assert held == [weight]
    assert gate.running == 0
    # However much they weigh, they can run.
    assert Limits(concurrency=2, queue=0).check_options(options) == min(weight, 2)


def test_max_tokens_unless_said(client):
    for most, expected in ((1024, 64), (20, 20)):
        engine = FakeEngine()
        client(engine, limits=Limits(max_tokens=most)).post("/v1/chat/completions", json=CHAT)
        assert engine.asks[0].sampling.max_tokens == expected


def chunks(*parts):
    yield from parts


@pytest.mark.parametrize("chunked", [False, True])
def test_body_size(client, chunked):
    client = client(limits=Limits(max_body_bytes=100))
    headers = {"Content-Type": "application/json"}
    body = b'{"model": "demo", "text": "' + b"a" * 71 + b'"}'
    assert len(body) == 100
    content = chunks(body[:50], body[50:]) if chunked else body
    assert client.post("/v1/classify", content=content, headers=headers).status_code == 200
    content = chunks(body, b" ") if chunked else body + b" "
    reply = client.post("/v1/classify", content=content, headers=headers)
    assert error(reply) == (
        413,
        {
            "message": "the request body is too long; allowed: at most 100 bytes",
            "type": "invalid_request_error",
            "param": None,
            "code": "request_too_large",
        },
    )


class Sender:
    """An ASGI server's side of one request: what the app is sent, and what it read of it."""

    def __init__(self, *bodies, length=None, silent=False):
        self.messages = [{"type": "http.request", "body": b, "more_body": True} for b in bodies]
        if not silent:
            self.messages.append({"type": "http.request", "body": b""})
        self.scope = {"type": "http", "path": "/", "headers": []}
        if length is not None:
            self.scope["headers"].append((b"content-length", length))
        self.read = 0
        self.sent = []

    async def receive(self):
        if not self.messages:
            await asyncio.sleep(60)
        self.read += 1
        return self.messages.pop(0)

    async def send(self, message):
        self.sent.append(message)

    def run(self, limits):
        async def app(scope, receive, send):
            self.body = await receive()

        middleware = ErrorMiddleware(BodyLimitMiddleware(app, limits))
        asyncio.run(middleware(self.scope, self.receive, self.send))
        return self.sent[0]["status"] if self.sent else None


def test_a_body_is_never_all_read_if_it_is_far_too_long():
    sender = Sender(*[b"x" * 10] * 1000)
    assert sender.run(Limits(max_body_bytes=100)) == 413
    assert sender.read == 81
    sender = Sender(b"x", length=b"801")
    assert sender.run(Limits(max_body_bytes=100)) == 413
    assert sender.read == 0


@pytest.mark.parametrize("length", [b"-1", b"x", "²".encode(), b"5"])
def test_a_length_is_not_believed(length):
    sender = Sender(b"x" * 60, b"y" * 41, length=length)
    assert sender.run(Limits(max_body_bytes=100)) == 413


def test_a_body_that_comes_in_parts():
    sender = Sender(b"x" * 60, b"y" * 40)
    assert sender.run(Limits(max_body_bytes=100)) is None
    assert sender.body == {
        "type": "http.request",
        "body": b"x" * 60 + b"y" * 40,
        "more_body": False,
    }


def test_a_body_that_does_not_come():
    assert Sender(b"x", silent=True).run(Limits(body_timeout_s=0.01)) == 408


def test_a_client_that_leaves_in_the_middle_of_its_body():
    sender = Sender(b"x", silent=True)
    sender.messages.append({"type": "http.disconnect"})
    assert sender.run(Limits()) is None
    assert not hasattr(sender, "body")


def test_the_gate_keeps_the_order():
    async def run():
        gate = Gate(Limits(concurrency=2, queue=10))
        order, most = [], 0

        async def one(name, weight):
            nonlocal most
            async with gate.admit(weight):
                order.append(name)
                most = max(most, gate.running)
                await asyncio.sleep(0.001)

        # The heavy one is not overtaken by light ones for ever, and is let in though too heavy.
        jobs = [("a", 1), ("b", 1), ("heavy", 3), ("c", 1), ("d", 1)]
        await asyncio.gather(*(one(*job) for job in jobs))
        assert order == ["a", "b", "heavy", "c", "d"]
        assert most == 3
        assert (gate.running, gate.waiting) == (0, 0)

    asyncio.run(run())


def test_the_gate_refuses_what_cannot_wait():
    async def run():
        gate = Gate(Limits(concurrency=1, queue=2))
        async with gate.admit():
            waiting = asyncio.create_task(gate.admit(2).__aenter__())
            await asyncio.sleep(0)
            assert (gate.running, gate.waiting) == (1, 2)
            with pytest.raises(ApiError) as caught:
                await gate.admit().__aenter__()
            assert caught.value.status == 429
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert gate.waiting == 0
        assert gate.running == 0

    asyncio.run(run())


def test_the_gate_forgets_who_leaves_as_it_is_let_in():
    async def run():
        gate = Gate(Limits(concurrency=1, queue=2))
        first = gate.admit()
        await first.__aenter__()
        places = [gate.admit() for _ in range(2)]
        waiting = [asyncio.create_task(place.__aenter__()) for place in places]
        await asyncio.sleep(0)
        await first.__aexit__(None, None, None)
        # Its turn has come, and it does not know it yet.
        assert gate.running == 1
        waiting[0].cancel()
        await asyncio.wait(waiting, timeout=1)
        assert waiting[0].cancelled()
        assert waiting[1].done()
        assert (gate.running, gate.waiting) == (1, 0)

    asyncio.run(run())


def test_in_time_tells_its_own_timeout_from_others():
    async def run():
        with pytest.raises(ApiError) as caught:
            async with time_limit(0.001):
                await asyncio.sleep(1)
        assert (caught.value.status, str(caught.value)) == (504, "no answer within 0.001 seconds")
        with pytest.raises(TimeoutError, match="the work's own"):
            async with time_limit(1):
                raise TimeoutError("the work's own")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {"model": "demo", "prompt": "a"}),
        ("/v1/classify", {"model": "demo", "text": "a"}),
        ("/v1/layer_weights", {"model": "demo", "text": "a"}),
    ],
)
def test_too_slow_an_engine(client, path, body):
    engine = FakeEngine(pause_s=30)
    reply = client(engine, limits=Limits(timeout_s=0.05)).post(path, json=body)
    assert error(reply) == (
        504,
        {
            "message": "no answer within 0.05 seconds",
            "type": "server_error",
            "param": None,
            "code": "timeout",
        },
    )
    assert engine.left == 1
    assert engine.running == 0
