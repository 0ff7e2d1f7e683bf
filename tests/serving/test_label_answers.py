"""Chat and completions of a bridge trained on labels: one of them, or free text if asked for."""

import math

import pytest
from fake_engine import OPTIONS, FakeEngine, ids_of, ranked
from test_generation_routes import CHAT, COMPLETIONS, either, events, streamed, whole

from layerbridge.serving.limits import Limits

both = pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
LABELS = "runs/two"  # was trained with OPTIONS
FREE = "demo"  # without any
FAR = ["a", "b", "c", "d", "e"]


def body(path, model=LABELS, **settings):
    if path == CHAT:
        return {"model": model, "messages": [{"role": "user", "content": "abc"}], **settings}
    return {"model": model, "prompt": "abc", **settings}


def ask(client, path, *, stream=False, **settings):
    reply = client.post(path, json=body(path, stream=stream, **settings))
    return (streamed if stream else whole)(reply)


@both
@either
@pytest.mark.parametrize(
    ("model", "settings", "answer"),
    [
        (LABELS, {}, "country"),
        (LABELS, {"options": None}, "country"),
        (LABELS, {"options": ["yes", "no"]}, "yes"),
        (LABELS, {"options": []}, "free"),
        (LABELS, {"ignore_eos": True}, "free"),
        (LABELS, {"ignore_eos": True, "options": []}, "free"),
        (FREE, {}, "free"),
        (FREE, {"options": ["yes", "no"]}, "yes"),
        (LABELS, {"instruction": "Which?"}, "country"),
        # Values of OpenAI's fields that change nothing.
        (LABELS, {"response_format": {"type": "text"}, "tools": []}, "country"),
    ],
)
def test_a_label_unless_free_text_is_asked_for(client, path, stream, model, settings, answer):
    engine = FakeEngine(write=lambda ask: "free")
    found = ask(client(engine), path, stream=stream, model=model, **settings)
    assert found == {0: (answer, "stop")}


@both
@either
def test_n_and_several_texts(client, path, stream):
    settings = {"n": 2} if path == CHAT else {"n": 2, "prompt": ["a", "b"]}
    found = ask(client(), path, stream=stream, **settings)
    assert found == dict.fromkeys(range(2 if path == CHAT else 4), ("country", "stop"))


@both
@either
def test_above_temperature_0_labels_are_drawn_by_their_probabilities(client, path, stream):
    client, drawn = client(limits=Limits(max_n=200, concurrency=200)), {}
    for temperature in (0.0, 0.01, 1.0, 2.0):
        how = {"n": 200, "seed": 1, "temperature": temperature}
        found = ask(client, path, stream=stream, **how)
        assert {answer for answer, _ in found.values()} <= set(OPTIONS)
        drawn[temperature] = sum(answer == "currency" for answer, _ in found.values()) / 200
        if temperature == 1.0:
            assert ask(client, path, stream=stream, **how) == found  # by the seed
    assert drawn[0.0] == drawn[0.01] == 0
    assert drawn[1.0] == pytest.approx(1 / (1 + math.e), abs=0.1)
    assert drawn[2.0] == pytest.approx(1 / (1 + math.exp(0.5)), abs=0.1)
    found = ask(client, path, n=200, temperature=1, top_p=0.5)
    assert set(found.values()) == {("country", "stop")}


@both
@either
def test_a_label_ends_at_the_limit_or_a_stop_string(client, path, stream):
    client, tokens = client(), ids_of("country")
    for most in range(1, len(tokens) + 1):
        ((answer, reason),) = ask(client, path, stream=stream, max_tokens=most).values()
        whole = most == len(tokens)
        assert "country".startswith(answer)
        assert (answer == "country", reason) == (whole, "stop" if whole else "length")
    assert ask(client, path, stream=stream, stop="tr") == {0: ("coun", "stop")}


@both
def test_usage(client, path):
    usage = client().post(path, json=body(path, n=2)).json()["usage"]
    count = 2 * len(ids_of("country"))
    assert usage == {**{"prompt_tokens": 4, "completion_tokens": count, "total_tokens": 4 + count}}


def test_logprobs_are_those_among_the_options(client):
    """Their sum is log p(option); the alternatives lead to the other options."""
    client = client()
    expected = ranked(LABELS, OPTIONS).probabilities
    settings = {"temperature": 1, "logprobs": True, "top_logprobs": 20}
    seen = set()
    for seed in range(20):
        reply = client.post(CHAT, json=body(CHAT, seed=seed, **settings)).json()
        choice = reply["choices"][0]
        label, tokens = choice["message"]["content"], choice["logprobs"]["content"]
        seen.add(label)
        assert b"".join(bytes(token["bytes"]) for token in tokens).decode() == label
        assert math.exp(sum(token["logprob"] for token in tokens)) == pytest.approx(expected[label])
        for token in tokens:
            tops = token["top_logprobs"]
            assert token["token"] in [top["token"] for top in tops]
            assert sum(math.exp(top["logprob"]) for top in tops) == pytest.approx(1)
        assert {len(token["top_logprobs"]) for token in tokens} == {1, 2}
    assert seen == set(OPTIONS)
    reply = client.post(COMPLETIONS, json=body(COMPLETIONS, logprobs=1)).json()
    assert [len(top) for top in reply["choices"][0]["logprobs"]["top_logprobs"]] == [1] * len(
        ids_of("country")
    )


@both
@pytest.mark.parametrize(("options", "far"), [(OPTIONS, False), (FAR, False), (["a"], True)])
def test_it_is_said_how_likely_any_option_is(client, path, options, far):
    """Once for each label, with its end, and never for free text."""
    client = client()
    found = ranked(LABELS, options)
    expected = {"any_option": found.any_option, "far_from_training": far}
    assert found.far_from_training == far
    reply = client.post(path, json=body(path, options=options, n=2)).json()
    assert [choice["layerbridge"] for choice in reply["choices"]] == [expected] * 2
    chunks, _ = events(client.post(path, json=body(path, options=options, stream=True)))
    said = [
        (choice["layerbridge"], choice["finish_reason"])
        for chunk in chunks
        for choice in chunk["choices"]
    ]
    assert said[-1] == (expected, "stop")
    assert {label for label, _ in said[:-1]} == {None}
    assert '"layerbridge"' not in client.post(path, json=body(path, options=[])).text
    assert '"layerbridge"' not in client.post(path, json=body(path, options=[], stream=True)).text


@both
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"options": ["a", "b", "c"]}, "options: 3 options; allowed: at most 2"),
        ({"options": ["a", 1]}, "options[1]: Input should be a valid string"),
        ({"options": "a"}, "options: Input should be a valid list"),
        ({"options": ["a"], "ignore_eos": True}, "ignore_eos: options end; allowed: options: []"),
    ],
)
def test_options_that_are_refused(client, path, settings, message):
    reply = client(limits=Limits(max_options=2)).post(path, json=body(path, **settings))
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith(message)


@both
@either
def test_options_are_weighed_at_the_gate(client, path, stream):
    engine, held = FakeEngine(), []
    client = client(engine, limits=Limits(concurrency=20))
    gate, generate = client.app.state.service.gate, engine.generate

    def watched(prompt):
        held.append(gate.running)
        return generate(prompt)

    engine.generate = watched
    ask(client, path, stream=stream, options=[str(number) for number in range(33)], n=2)
    assert set(held) == {4}
    assert gate.running == 0
