"""/v1/classify and /v1/layer_weights."""

import math

import pytest
from fake_engine import FakeEngine

from layerbridge.serving.requests import Question


def test_classify(client):
    engine = FakeEngine()
    body = {"model": "demo", "text": "රුපියල", "options": ["b", "a"], "normalize": "mean"}
    reply = client(engine).post("/v1/classify", json={**body, "instruction": "What is it?"})
    total = math.exp(-1) + math.exp(-2)
    assert reply.status_code == 200
    assert reply.json() == {
        "model": "demo",
        "choice": "b",
        "options": [
            {"option": "b", "score": -1.0, "probability": pytest.approx(math.exp(-1) / total)},
            {"option": "a", "score": -2.0, "probability": pytest.approx(math.exp(-2) / total)},
        ],
    }
    assert engine.questions == [Question("demo", "රුපියල", ("b", "a"), "What is it?", "mean")]


def test_classify_with_the_bridges_own_options(client):
    engine = FakeEngine()
    reply = client(engine).post("/v1/classify", json={"model": "runs/two", "text": "a"}).json()
    assert [option["option"] for option in reply["options"]] == ["country", "currency"]
    assert engine.questions == [Question("runs/two", "a")]


def test_layer_weights(client):
    reply = client().post("/v1/layer_weights", json={"model": "demo", "text": "ශ්‍රී ලංකා"})
    assert reply.status_code == 200
    assert reply.json() == {
        "model": "demo",
        "tokens": ["<s>", "ශ්‍රී", "ලංකා", "</s>"],
        "layers": [1, 2, 3],
        "weights": [[0.1666667, 0.3333333, 0.5]] * 4,
    }
