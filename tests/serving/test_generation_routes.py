"""/v1/chat/completions and /v1/completions, whole and streamed."""

import json

import pytest
from fake_engine import TOKENIZER, FakeEngine, ids_of

from layerbridge.serving.conversation import ChatMapping
from layerbridge.serving.engine import EngineDownError
from layerbridge.serving.limits import Limits
from layerbridge.serving.requests import Finished, Prompt, Sampling

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
SINHALA = "ශ්‍රී ලංකා රුපියල"


def body(path, text="abc", **settings):
    if path == CHAT:
        return {"model": "demo", "messages": [{"role": "user", "content": text}], **settings}
    return {"model": "demo", "prompt": text, **settings}


def events(reply):
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    parts = reply.text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    data = [part.removeprefix("data: ") for part in parts]
    return [json.loads(one) for one in data[:-1]], data[-1]


def streamed(reply):
    """Index → text and why it ended, of a stream in either form."""
    chunks, last = events(reply)
    assert last == "[DONE]"
    texts, reasons = {}, {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            text = choice["text"] if "text" in choice else choice["delta"].get("content", "")
            index = choice["index"]
            assert index not in reasons
            texts[index] = texts.get(index, "") + text
            if choice["finish_reason"] is not None:
                reasons[index] = choice["finish_reason"]
    return {index: (texts[index], reasons[index]) for index in texts}


def whole(reply):
    assert reply.status_code == 200
    return {
        choice["index"]: (
            choice["text"] if "text" in choice else choice["message"]["content"],
            choice["finish_reason"],
        )
        for choice in reply.json()["choices"]
    }


def answers(client, path, *, stream, text="abc", **settings):
    reply = client.post(path, json=body(path, text, stream=stream, **settings))
    return (streamed if stream else whole)(reply)


both = pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
either = pytest.mark.parametrize("stream", [False, True])


def test_chat(client):
    engine = FakeEngine(write=lambda ask: f" \n{ask.text} {ask.text}")
    reply = client(engine).post(CHAT, json=body(CHAT, SINHALA, max_tokens=200)).json()
    assert reply.pop("id").startswith("chatcmpl-")
    assert isinstance(reply.pop("created"), int)
    # All that the model wrote is counted, white space that chat leaves out as well.
    count = len(ids_of(f" \n{SINHALA} {SINHALA}"))
    assert reply == {
        "object": "chat.completion",
        "model": "demo",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": f"{SINHALA} {SINHALA}",
                    "refusal": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": len(SINHALA) + 1,
            "completion_tokens": count,
            "total_tokens": len(SINHALA) + 1 + count,
        },
    }
    sampling = Sampling(max_tokens=200)
    assert engine.asks == [Prompt("demo", SINHALA, None, sampling)]


def test_chat_streamed(client):
    engine = FakeEngine(write=lambda ask: " \nab")
    reply = client(engine).post(CHAT, json=body(CHAT, stream=True))
    assert reply.headers["cache-control"] == "no-store"
    chunks, last = events(reply)
    assert last == "[DONE]"
    assert len({(chunk.pop("id"), chunk.pop("created")) for chunk in chunks}) == 1
    choices = [
        {"delta": {"role": "assistant", "content": ""}, "finish_reason": None},
        {"delta": {"content": "a"}, "finish_reason": None},
        {"delta": {"content": "b"}, "finish_reason": None},
        {"delta": {}, "finish_reason": "stop"},
    ]
    assert chunks == [
        {
            "object": "chat.completion.chunk",
            "model": "demo",
            "choices": [{"index": 0, "logprobs": None, **choice}],
        }
        for choice in choices
    ]


def test_completions(client):
    engine = FakeEngine(write=lambda ask: f" {ask.text}")
    reply = client(engine).post(COMPLETIONS, json=body(COMPLETIONS, ["a", "bb"], n=2)).json()
    assert reply.pop("id").startswith("cmpl-")
    assert isinstance(reply.pop("created"), int)
    choice = {"logprobs": None, "finish_reason": "stop"}
    assert reply == {
        "object": "text_completion",
        "model": "demo",
        "choices": [
            {"index": index, "text": text, **choice}
            for index, text in enumerate([" a", " a", " bb", " bb"])
        ],
        # The prompts have 2 and 3 positions, each counted once.
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 2 * len(ids_of(" a")) + 2 * len(ids_of(" bb")),
            "total_tokens": 5 + 2 * len(ids_of(" a")) + 2 * len(ids_of(" bb")),
        },
    }


def test_completions_streamed(client):
    engine = FakeEngine(write=lambda ask: "ab")
    settings = {"stream": True, "stream_options": {"include_usage": True}}
    chunks, last = events(client(engine).post(COMPLETIONS, json=body(COMPLETIONS, **settings)))
    assert last == "[DONE]"
    found = [(chunk["choices"], chunk["usage"]) for chunk in chunks]
    choice = {"index": 0, "logprobs": None}
    assert found == [
        ([{**choice, "text": "a", "finish_reason": None}], None),
        ([{**choice, "text": "b", "finish_reason": None}], None),
        ([{**choice, "text": "", "finish_reason": "stop"}], None),
        ([], {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}),
    ]


@both
@either
def test_n_answers_have_their_own_seeds(client, path, stream):
    engine = FakeEngine(write=lambda ask: f"seed {ask.sampling.seed}", pause_s=0.001)
    found = answers(client(engine), path, stream=stream, n=3, seed=2**63 - 2, temperature=1)
    expected = [2**63 - 2, 2**63 - 1, 0]
    assert found == {i: (f"seed {seed}", "stop") for i, seed in enumerate(expected)}
    assert engine.most_running == 3


@both
@either
def test_length(client, path, stream):
    engine = FakeEngine(write=lambda ask: "abcdef")
    expected = {0: ("abc", "length")}
    assert answers(client(engine), path, stream=stream, max_tokens=3) == expected


def test_the_newer_name_of_max_tokens_wins(client):
    engine = FakeEngine(write=lambda ask: "abcdef")
    found = answers(client(engine), CHAT, stream=False, max_tokens=5, max_completion_tokens=2)
    assert found == {0: ("ab", "length")}


@both
@either
@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("END", "one EN "),
        (["zzz", "\n"], "one EN END more ENd"),
        (["d\nl", "last"], "one EN END more EN"),
        (["zzz"], "one EN END more ENd\nlast"),
        ([], "one EN END more ENd\nlast"),
    ],
)
def test_stop(client, path, stream, stop, text):
    written = "one EN END more ENd\nlast"
    engine = FakeEngine(write=lambda ask: written)
    assert answers(client(engine), path, stream=stream, stop=stop) == {0: (text, "stop")}
    # The engine is told to go no further.
    assert engine.left == (text != written)


@both
@either
def test_a_stop_string_at_the_very_end_is_found(client, path, stream):
    # Whether the last character is whole is known only at the end.
    engine = FakeEngine(write=lambda ask: [*ids_of("ab"), *ids_of("\ufffd")])
    found = answers(client(engine), path, stream=stream, stop="\ufffd", max_tokens=9)
    assert found == {0: ("ab", "stop")}


@both
@either
def test_half_a_character_at_the_end(client, path, stream):
    ids = ids_of("a猫")[:-1]
    found = answers(client(FakeEngine(write=lambda ask: ids)), path, stream=stream)
    assert found == {0: ("a\ufffd", "stop")}


@both
def test_sampling_reaches_the_engine(client, path):
    engine = FakeEngine()
    client = client(engine)
    settings = {
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": -1,
        "ignore_eos": True,
        "instruction": "Go.",
        "max_tokens": 5,
    }
    client.post(path, json=body(path, **settings))
    sampling = Sampling(5, 0.7, 0.9, 2**63 - 1, None, True)
    assert engine.asks == [Prompt("demo", "abc", "Go.", sampling)]
    # An empty nucleus is the most likely token.
    client.post(path, json=body(path, top_p=0, temperature=1))
    assert engine.asks[1].sampling == Sampling()


def test_the_system_instructs_unless_the_request_does(client):
    engine = FakeEngine()
    client = client(engine)
    chat = body(CHAT)
    chat["messages"].insert(0, {"role": "system", "content": "Be brief."})
    client.post(CHAT, json=chat)
    client.post(CHAT, json={**chat, "instruction": "Be kind."})
    assert [ask.instruction for ask in engine.asks] == ["Be brief.", "Be kind."]


def test_the_mapping_is_the_servers(client):
    engine = FakeEngine()
    chat = body(CHAT)
    chat["messages"].insert(0, {"role": "system", "content": "Be brief."})
    client(engine, mapping=ChatMapping(system="text")).post(CHAT, json=chat)
    assert (engine.asks[0].text, engine.asks[0].instruction) == ("Be brief.\nabc", None)


def joined(chunks, path):
    """The logprobs of a stream, put together."""
    if path == CHAT:
        content = [
            token
            for chunk in chunks
            for choice in chunk["choices"]
            for token in (choice["logprobs"] or {"content": []})["content"]
        ]
        return {"content": content}
    parts = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"]]
    return {key: [item for part in parts for item in part[key]] for key in parts[0]}


@either
def test_chat_logprobs(client, stream):
    engine = FakeEngine(write=lambda ask: "a猫")
    settings = {"logprobs": True, "top_logprobs": 2, "stream": stream}
    reply = client(engine).post(CHAT, json=body(CHAT, **settings))
    found = joined(events(reply)[0], CHAT) if stream else reply.json()["choices"][0]["logprobs"]
    second = TOKENIZER.decode([10])
    names = ["a", r"bytes:\xe7", r"bytes:\x8c", r"bytes:\xab"]
    bytes_ = [[97], [0xE7], [0x8C], [0xAB]]
    assert found["content"] == [
        {
            "token": name,
            "logprob": -0.5,
            "bytes": own,
            "top_logprobs": [
                {"token": name, "logprob": -0.5, "bytes": own},
                {"token": second, "logprob": -1.5, "bytes": list(second.encode())},
            ],
        }
        for name, own in zip(names, bytes_, strict=True)
    ]
    assert engine.asks[0].sampling.logprobs == 2


@either
def test_completion_logprobs(client, stream):
    engine = FakeEngine(write=lambda ask: "a猫b STOP")
    settings = {"logprobs": 1, "stream": stream, "stop": " ST"}
    reply = client(engine).post(COMPLETIONS, json=body(COMPLETIONS, **settings))
    found = (
        joined(events(reply)[0], COMPLETIONS) if stream else reply.json()["choices"][0]["logprobs"]
    )
    names = ["a", r"bytes:\xe7", r"bytes:\x8c", r"bytes:\xab", "b"]
    # No token of the stop string, though the engine wrote it.
    assert found == {
        "tokens": names,
        "token_logprobs": [-0.5] * 5,
        "top_logprobs": [{name: -0.5} for name in names],
        "text_offset": [0, 1, 1, 1, 2],
    }


def test_logprobs_without_others(client):
    client = client(FakeEngine(write=lambda ask: "a"))
    chat = client.post(CHAT, json=body(CHAT, logprobs=True)).json()
    assert chat["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    plain = client.post(COMPLETIONS, json=body(COMPLETIONS, logprobs=0)).json()
    assert plain["choices"][0]["logprobs"]["top_logprobs"] == [{"a": -0.5}]


@both
@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (EngineDownError, "the engine is down; try again", "engine_down"),
        (RuntimeError, "internal server error; see the server log", "internal_error"),
    ],
)
def test_an_engine_that_fails_in_the_middle(client, path, error, message, code):
    engine = FakeEngine(write=lambda ask: "abcdef", fails={3: error})
    chunks, last = events(client(engine).post(path, json=body(path, n=2, stream=True)))
    told = {"message": message, "type": "server_error", "param": None, "code": code}
    # It is the last event: a client that waits for [DONE] must not take it for an answer's end.
    assert json.loads(last) == {"error": told}
    assert chunks
    assert engine.running == 0


@both
def test_a_stream_that_takes_too_long(client, path):
    engine = FakeEngine(write=lambda ask: "a" * 50, pause_s=0.02)
    limits = Limits(timeout_s=0.15)
    chunks, last = events(client(engine, limits=limits).post(path, json=body(path, stream=True)))
    assert json.loads(last)["error"]["code"] == "timeout"
    assert len(chunks) > 1
    assert (engine.running, engine.left) == (0, 1)


class Abrupt(FakeEngine):
    """An engine that ends an answer without a word."""

    async def generate(self, ask):
        async for event in super().generate(ask):
            if not isinstance(event, Finished):
                yield event


@both
def test_an_engine_that_gives_up(client, path):
    assert client(Abrupt()).post(path, json=body(path)).json()["error"]["code"] == "engine_down"


class Plain(FakeEngine):
    """An engine whose events cannot be closed: an iterator is all that ``Engine`` asks for."""

    def generate(self, ask):
        events = super().generate(ask)

        class Events:
            def __aiter__(self):
                return self

            async def __anext__(self):
                return await anext(events)

        return Events()


@both
def test_an_engine_with_plain_iterators(client, path):
    found = answers(client(Plain(write=lambda ask: "ab")), path, stream=False)
    assert found == {0: ("ab", "stop")}
