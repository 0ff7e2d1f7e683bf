"""What is the same for all routes: start, drain, headers, CORS, the OpenAPI document."""

import asyncio
import logging
import re

import pytest
from fake_engine import FakeEngine

from layerbridge.serving.app import HEADERS
from layerbridge.serving.routes.models import public_name
from layerbridge.version import __version__

ASK = {"model": "demo", "text": "a"}


def test_before_the_engine_is_ready(client, eventually):
    class Held(FakeEngine):
        held = True

        async def start(self):
            while self.held:
                await asyncio.sleep(0.005)
            await super().start()

    engine = Held()
    client = client(engine, wait=False)
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "starting"})
    assert ready.headers["retry-after"] == "5"
    reply = client.post("/v1/classify", json=ASK)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert reply.json()["error"] == {
        "message": "the engine is starting; try again",
        "type": "server_error",
        "param": None,
        "code": "starting",
    }
    assert client.get("/v1/models").status_code == 503
    assert client.get("/").status_code == 200
    engine.held = False
    eventually(lambda: client.get("/readyz").json() == {"status": "ready"})
    assert client.post("/v1/classify", json=ASK).status_code == 200


def test_an_engine_that_cannot_start(client, eventually, caplog):
    engine = FakeEngine(fails={"start": RuntimeError("no such folder: /secret")})
    with caplog.at_level(logging.ERROR):
        client = client(engine, wait=False)
        eventually(lambda: client.get("/readyz").json() == {"status": "down"})
    assert "no such folder: /secret" in caplog.text
    reply = client.post("/v1/classify", json=ASK)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "30")
    assert reply.json()["error"]["message"] == "the engine failed to start"
    assert client.get("/healthz").status_code == 200


def test_the_engine_stops_with_the_app():
    from starlette.testclient import TestClient

    from layerbridge.serving.app import create_app

    engine = FakeEngine(start_s=60)
    with TestClient(create_app(engine)):
        assert not engine.stopped
    assert engine.stopped


def test_an_engine_that_comes_back(client):
    engine = FakeEngine()
    client = client(engine)
    engine.state = "down"
    assert client.get("/readyz").json() == {"status": "down"}
    assert client.post("/v1/classify", json=ASK).json()["error"]["code"] == "engine_down"
    engine.state = "ready"
    assert client.post("/v1/classify", json=ASK).status_code == 200


def test_drain(client):
    client = client()
    client.app.state.drain = True
    assert client.get("/healthz").status_code == 200
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
    reply = client.post("/v1/classify", json=ASK)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert reply.json()["error"]["message"] == "the server is shutting down"


@pytest.mark.parametrize("path", ["/", "/page/page.css", "/v1/models", "/no/such", "/metrics"])
def test_headers(client, path):
    reply = client().get(path)
    assert {name: reply.headers[name] for name in HEADERS} == HEADERS
    assert reply.headers["content-security-policy"].startswith("default-src 'self';")


GETS = ("/healthz", "/readyz", "/metrics", "/", "/page/page.css", "/v1/models", "/openapi.json")


@pytest.mark.parametrize("path", [*GETS, "/v1/models/demo", "/v1/models/none", "/v1/chat", "/x"])
@pytest.mark.parametrize("drain", [False, True])
def test_head_is_get_without_the_body(client, path, drain):
    client = client()
    client.app.state.drain = drain
    get, head = client.get(path), client.head(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    own = {"content-length"} if path == "/metrics" else set()  # it counts the requests themselves
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in get.headers.items() if k not in own
    }


def test_the_page(client):
    client = client()
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    files = re.findall(r'(?:src|href)="(page/[^"]+)"', page.text)
    assert files
    types = {}
    for file in files:
        reply = client.get(f"/{file}")
        assert reply.status_code == 200
        types[file.rpartition(".")[2]] = reply.headers["content-type"].partition(";")[0]
    assert types["js"] == "text/javascript"
    assert types["css"] == "text/css"
    fonts = client.get("/page/fonts/fonts.css")
    font = re.search(r"url\([\"']?([^)\"']+\.woff2)", fonts.text)[1]
    reply = client.get(f"/page/fonts/{font}")
    assert reply.headers["content-type"] == "font/woff2"


def test_a_package_without_the_page(client, monkeypatch, tmp_path):
    monkeypatch.setattr("layerbridge.serving.routes.page.FOLDER", tmp_path)
    assert client().get("/").status_code == 404


def test_no_other_origin_may_ask_unless_told(client):
    origin = {"Origin": "https://example.org"}
    asked = {**origin, "Access-Control-Request-Method": "POST"}
    closed = client()
    assert "access-control-allow-origin" not in closed.get("/v1/models", headers=origin).headers
    assert closed.options("/v1/classify", headers=asked).status_code == 405
    opened = client(cors_origins=["https://example.org"])
    reply = opened.get("/v1/models", headers=origin)
    assert reply.headers["access-control-allow-origin"] == "https://example.org"
    asked["Access-Control-Request-Headers"] = "authorization,x-stainless-os"
    assert opened.options("/v1/classify", headers=asked).status_code == 200
    other = opened.get("/v1/models", headers={"Origin": "https://example.com"})
    assert "access-control-allow-origin" not in other.headers


def test_models(client):
    client = client()
    reply = client.get("/v1/models").json()
    assert reply["object"] == "list"
    first, second = reply["data"]
    created = first.pop("created")
    assert abs(created - client.app.state.service.created) < 1
    assert first == {
        "id": "demo",
        "object": "model",
        "owned_by": "layerbridge",
        "layerbridge": {
            "fusion": "token-softmax",
            "encoder": "zoo:multilingual-e5-small",
            "language_model": "llama",
            "options": None,
            "instruction": None,
            "template": None,
            "layers": 3,
            "examples": [],
        },
    }
    assert second["layerbridge"]["encoder"] == "google/mt5-small"
    assert second["layerbridge"]["options"] == ["country", "currency"]
    assert second["layerbridge"]["examples"] == [
        {"text": "ශ්‍රී", "target": "currency", "language": "si", "meaning": None}
    ]
    assert client.get("/v1/models/runs/two").json() == second
    assert client.get("/v1/models/").json() == client.get("/v1/models").json()
    assert client.get("/v1/models/other").json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("zoo:e5", "zoo:e5"),
        ("google/mt5-large", "google/mt5-large"),
        ("gpt2", "gpt2"),
        ("/home/me/mt5", "mt5"),
        ("/mt5/", "mt5"),
        ("~/mt5", "mt5"),
        ("./mt5", "mt5"),
        ("../mt5", "mt5"),
        ("a/b/mt5", "mt5"),
        ("C:\\Users\\me\\mt5", "mt5"),
        ("C:\\mt5", "mt5"),
        (None, None),
    ],
)
def test_no_folder_is_shown(source, expected):
    assert public_name(source) == expected


def test_a_folder_here_that_looks_like_a_hub_id(tmp_path, monkeypatch):
    (tmp_path / "models" / "mt5").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert public_name("models/mt5") == "mt5"


def test_openapi(client):
    client = client()
    document = client.get("/openapi.json").json()
    assert document["info"] == {"title": "layerbridge", "version": __version__}
    assert set(document["paths"]) == {
        *("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/{model}"),
        *("/v1/classify", "/v1/layer_weights", "/healthz", "/readyz", "/metrics"),
    }
    text = client.get("/openapi.json").text
    assert "422" not in text
    assert "prompt_embeds" not in text
    assert "securitySchemes" not in text
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert set(chat["responses"]) == {
        *("200", "400", "401", "404", "408", "413", "415", "429", "500", "503", "504")
    }
    assert set(chat["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    for path in ("/docs", "/redoc"):
        assert client.get(path).status_code == 404
