"""What clients are told, word for word."""

import asyncio
import logging

import pytest
from fake_engine import FakeEngine
from starlette.exceptions import HTTPException

from layerbridge.errors import BackboneError, NotFiniteError
from layerbridge.serving.engine import EngineDownError
from layerbridge.serving.errors import ErrorMiddleware, to_api_error

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "a"}]


def post(client, path, body):
    if path == CHAT:
        body = {"model": "demo", "messages": MESSAGES, **body}
    elif path == "/v1/completions":
        body = {"model": "demo", "prompt": "a", **body}
    else:
        body = {"model": "demo", "text": "a", **body}
    return client.post(path, json={key: value for key, value in body.items() if value != "-"})


@pytest.fixture(scope="module")
def shared():
    from starlette.testclient import TestClient

    from layerbridge.serving.app import create_app

    with TestClient(create_app(FakeEngine()), raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body", "param", "message"),
    [
        (CHAT, {"messages": "-"}, "messages", "messages: Field required"),
        (CHAT, {"messages": None}, "messages", "messages: Field required"),
        (
            CHAT,
            {"messages": []},
            "messages",
            "messages: List should have at least 1 item after validation, not 0",
        ),
        (
            CHAT,
            {"messages": [{"role": "tool", "content": "a"}]},
            "messages[0].role",
            "messages[0].role: Input should be 'system', 'developer', 'user' or 'assistant'",
        ),
        (
            CHAT,
            {"messages": [{"role": "user", "content": 5}]},
            "messages[0].content",
            "messages[0].content: Input should be a valid string or Input should be a valid list",
        ),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content",
            "messages[0].content: Input should be a valid string; "
            "messages[0].content[0]: unsupported content type image_url; allowed: text",
        ),
        (
            CHAT,
            {"messages": [{"role": "assistant", "tool_calls": [{"id": 1}]}]},
            "messages[0].tool_calls",
            "messages[0].tool_calls: not supported; allowed: []",
        ),
        (CHAT, {"tools": [{"type": "function"}]}, "tools", "tools: not supported; allowed: []"),
        (
            CHAT,
            {"response_format": {"type": "json_object"}},
            "response_format",
            'response_format: not supported; allowed: {"type": "text"}',
        ),
        (
            CHAT,
            {"frequency_penalty": 0.5, "presence_penalty": 1},
            "frequency_penalty",
            "frequency_penalty: not supported; allowed: 0; "
            "presence_penalty: not supported; allowed: 0",
        ),
        (CHAT, {"prompt_embeds": "AAAA"}, "prompt_embeds", "prompt_embeds: not supported"),
        (
            CHAT,
            {"temperature": 2.5},
            "temperature",
            "temperature: Input should be less than or equal to 2",
        ),
        (CHAT, {"temperature": "0"}, "temperature", "temperature: Input should be a valid number"),
        (CHAT, {"top_logprobs": 3}, "top_logprobs", "top_logprobs: requires logprobs: true"),
        (CHAT, {"n": 0}, "n", "n: Input should be greater than or equal to 1"),
        (CHAT, {"seed": 2**63}, "seed", f"seed: Input should be less than {2**63}"),
        (
            CHAT,
            {"stop": ["a"] * 5},
            "stop",
            "stop: Input should be a valid string or "
            "List should have at most 4 items after validation, not 5",
        ),
        (
            CHAT,
            {"stream_options": {"include_usage": 3}},
            "stream_options.include_usage",
            "stream_options.include_usage: Input should be a valid boolean",
        ),
        ("/v1/completions", {"echo": True}, "echo", "echo: not supported; allowed: false"),
        ("/v1/completions", {"best_of": 2}, "best_of", "best_of: not supported; allowed: 1"),
        (
            "/v1/completions",
            {"prompt": [1, 2]},
            "prompt",
            "prompt: token ids are not supported, as encoder and language model have different "
            "ones; allowed: a string, or a list of strings",
        ),
        (
            "/v1/completions",
            {"prompt": [[1, 2]]},
            "prompt",
            "prompt: token ids are not supported, as encoder and language model have different "
            "ones; allowed: a string, or a list of strings",
        ),
        (
            "/v1/completions",
            {"logprobs": 6},
            "logprobs",
            "logprobs: Input should be less than or equal to 5",
        ),
        (
            "/v1/classify",
            {"normalize": "max"},
            "normalize",
            "normalize: Input should be 'sum' or 'mean'",
        ),
        ("/v1/classify", {"options": ["a", "a"]}, None, "duplicate option; allowed: each"),
        ("/v1/layer_weights", {"text": "-"}, "text", "text: Field required"),
    ],
)
def test_a_request_that_is_not_right(shared, path, body, param, message):
    reply = post(shared, path, body)
    told = reply.json()["error"]
    assert reply.status_code == 400
    assert told["message"].startswith(message)
    assert "\n" not in told["message"]
    assert (told["type"], told["param"], told["code"]) == (
        *("invalid_request_error", param),
        "invalid_value",
    )


@pytest.mark.parametrize(
    "body",
    [
        {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "tools": []},
        {"response_format": {"type": "text"}, "tool_choice": "auto", "function_call": "none"},
        {"tools": None, "temperature": None, "n": None, "stop": None, "stream": None, "seed": None},
        {"top_k": -1, "repetition_penalty": 1, "min_p": 0.0, "modalities": ["text"]},
        {"user": "me", "metadata": {"a": 1}, "store": True, "no_such_field": [1]},
    ],
)
def test_what_asks_for_nothing_is_let_through(shared, body):
    assert post(shared, CHAT, body).status_code == 200


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"{", "application/json", "JSON decode error"),
        (b"", "application/json", "Field required"),
        (b"[1]", "application/json", "Input should be a valid dictionary"),
        (b"\xff", "application/json", "There was an error parsing the body"),
        (b"[" * 100_000, "application/json", "There was an error parsing the body"),
        (b'{"n": ' + b"9" * 5000 + b"}", "application/json", "There was an error parsing"),
        (
            b'{"model": "demo", "text": "\\ud800"}',
            "application/json",
            "text: invalid Unicode: unpaired surrogate",
        ),
        (
            b'{"model": "\\ud800", "text": "a"}',
            "application/json",
            "model: invalid Unicode: unpaired surrogate",
        ),
    ],
)
def test_a_body_that_is_no_request(shared, content, kind, message):
    reply = shared.post("/v1/classify", content=content, headers={"Content-Type": kind})
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith(message)


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/classify", "/v1/layer_weights"])
@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (None, "none"),
        ("", "none"),
        ("text/plain", "text/plain"),
        ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded"),
        ("json", "json"),
        ("application/jsonp", "application/jsonp"),
    ],
)
def test_a_body_that_is_not_called_json(shared, path, kind, named):
    headers = {} if kind is None else {"Content-Type": kind}
    reply = shared.post(path, content=b"{}", headers=headers)
    assert reply.status_code == 415
    assert reply.json()["error"] == {
        "message": f"Content-Type: {named}; allowed: application/json",
        "type": "invalid_request_error",
        "param": None,
        "code": "unsupported_media_type",
    }


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON"])
@pytest.mark.parametrize("more", ["", "vnd.api+"])
def test_what_is_called_json(shared, kind, more):
    kind = kind.replace("/", f"/{more}")
    body = b'{"model": "demo", "text": "a"}'
    reply = shared.post("/v1/classify", content=body, headers={"Content-Type": kind})
    assert reply.status_code == 200


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/classify", "/v1/layer_weights"])
def test_a_model_that_there_is_not(shared, path):
    reply = post(shared, path, {"model": "gpt-4"})
    assert reply.status_code == 404
    assert reply.json()["error"] == {
        "message": "unknown model 'gpt-4'; allowed: demo, runs/two",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_other_paths_and_methods(shared):
    for reply, status, message in (
        (shared.get("/v2"), 404, "Not Found"),
        (shared.get(CHAT), 405, "Method Not Allowed"),
        (shared.get("/page/../app.py"), 404, "Not Found"),
        (shared.get("/page/%2e%2e/app.py"), 404, "Not Found"),
        (shared.get("/page/%00"), 404, "Not Found"),
        (shared.get(f"/page/{'a' * 5000}"), 404, "Not Found"),
    ):
        told = {"message": message, "type": "invalid_request_error", "param": None}
        assert (reply.status_code, reply.json()["error"]) == (
            status,
            {**told, "code": "http_error"},
        )
    assert shared.get(CHAT).headers["allow"] == "POST"


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/classify", "/v1/layer_weights"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_is_down(client, path, stream):
    engine = FakeEngine(fails={-1: EngineDownError})
    client = client(engine)
    for message in ("the engine is down; try again",) * 2:
        reply = post(client, path, {"stream": stream})
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
        told = {"message": message, "type": "server_error", "param": None, "code": "engine_down"}
        assert reply.json() == {"error": told}
    assert engine.running == 0


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/classify", "/v1/layer_weights"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "header", "code"),
    [
        (NotFiniteError, 500, ("x-should-retry", "false"), "model_error"),
        (MemoryError, 503, ("retry-after", "5"), "out_of_memory"),
    ],
)
def test_what_costs_one_request_alone(client, path, stream, error, status, header, code, caplog):
    engine = FakeEngine(fails={-1: error})
    client = client(engine)
    reply = post(client, path, {"stream": stream})
    assert (reply.status_code, reply.headers[header[0]]) == (status, header[1])
    told = reply.json()["error"]
    assert (told["type"], told["code"]) == ("server_error", code)
    assert "secret" in caplog.text
    engine.fails = {}
    assert post(client, path, {"stream": stream}).status_code == 200


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/classify", "/v1/layer_weights"])
def test_our_own_mistakes_are_logged_and_not_told(client, path, caplog):
    client = client(FakeEngine(fails={-1: RuntimeError}))
    with caplog.at_level(logging.ERROR):
        reply = post(client, path, {})
    assert reply.status_code == 500
    assert reply.json()["error"] == {
        "message": "internal server error; see the server log",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }
    assert "RuntimeError: secret" in caplog.text
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_what_else_may_be_raised():
    found = to_api_error(BackboneError("a", hint="b"))
    assert (found.status, str(found)) == (400, "a; next: b")
    found = to_api_error(HTTPException(418, headers={"A": "b"}))
    assert (found.status, found.headers) == (418, {"A": "b"})
    assert to_api_error(KeyError("a")).status == 500


def test_a_reply_that_has_begun_is_not_begun_again(caplog):
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("in the middle")

    async def send(message):
        sent.append(message)

    asyncio.run(ErrorMiddleware(app)({"type": "http"}, None, send))
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert "in the middle" in caplog.text
    with pytest.raises(RuntimeError):
        asyncio.run(ErrorMiddleware(app)({"type": "lifespan"}, None, send))


def test_a_text_whose_numbers_overflow_is_not_quoted(caplog):
    error = NotFiniteError("the layer weights", [2], texts=["my diary"], hint="again")
    assert str(to_api_error(error)) == "NaN or infinity in the layer weights; next: again"
    assert "diary" not in caplog.text
