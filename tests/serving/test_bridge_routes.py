"""/v1/classify and /v1/layer_weights."""

import math

import pytest
from fake_engine import FakeEngine

from layerbridge.errors import DataError
from layerbridge.serving.limits import Limits
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
        "any_option": pytest.approx(total),
        "far_from_training": False,
    }
    assert engine.questions == [Question("demo", "රුපියල", ("b", "a"), "What is it?", "mean")]


def test_classify_with_the_bridges_own_options(client):
    engine = FakeEngine()
    reply = client(engine).post("/v1/classify", json={"model": "runs/two", "text": "a"}).json()
    assert [option["option"] for option in reply["options"]] == ["country", "currency"]
    assert engine.questions == [Question("runs/two", "a")]


@pytest.mark.parametrize("texts", [["a", "බ", "a"], ["a"]])
def test_classify_several_texts(client, texts):
    engine = FakeEngine(pause_s=0.01)
    client = client(engine)
    ask = {"model": "runs/two", "instruction": "What?"}
    reply = client.post("/v1/classify", json={**ask, "text": texts}).json()
    alone = client.post("/v1/classify", json={**ask, "text": "a"}).json()
    assert alone.pop("model") == "runs/two"
    # The same keys as for one text, by the places of the texts, asked at the same time.
    assert reply == {
        "object": "list",
        "model": "runs/two",
        "data": [{"index": place, **alone} for place in range(len(texts))],
    }
    questions = [Question("runs/two", text, None, "What?") for text in [*texts, "a"]]
    assert engine.questions == questions
    assert engine.most_running == len(texts)


def test_a_text_that_cannot_be_classified_ends_the_others(client):
    engine = FakeEngine(pause_s=30)
    work = engine.classify

    async def classify(question):
        if question.text == "bad":
            raise DataError("a text is bad")
        return await work(question)

    engine.classify = classify
    reply = client(engine).post("/v1/classify", json={"model": "demo", "text": ["a", "bad", "a"]})
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, "a text is bad")
    assert (engine.running, engine.left) == (0, 2)


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"text": []}, "text", "text: Input should be a valid string or List should have"),
        ({"text": ["a"] * 4}, "text", "text: 4 texts; allowed: at most 3"),
        ({"text": ["a", "bbbbbb"]}, "text[1]", "text[1]: 6 characters; allowed: at most 5"),
        (
            {"text": ["a"] * 3, "options": list("abcdefghijklmnopqrstuvwxyzABCDEFGHI")},
            "text",
            "text: 6 answers in all; allowed: at most 5",
        ),
    ],
)
def test_texts_that_are_refused(client, body, param, message):
    limits = Limits(max_prompts=3, max_text_chars=5, concurrency=5, queue=5)
    reply = client(limits=limits).post("/v1/classify", json={"model": "demo", **body})
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert error["param"] == param
    assert error["message"].startswith(message)


def test_layer_weights(client):
    reply = client().post("/v1/layer_weights", json={"model": "demo", "text": "ශ්‍රී ලංකා"})
    assert reply.status_code == 200
    assert reply.json() == {
        "model": "demo",
        "tokens": ["<s>", "ශ්‍රී", "ලංකා", "</s>"],
        "layers": [1, 2, 3],
        "weights": [[0.1666667, 0.3333333, 0.5]] * 4,
    }
