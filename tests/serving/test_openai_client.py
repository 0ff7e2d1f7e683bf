"""The official client, unchanged, against a real server."""

import asyncio

import httpx
import openai
import pytest
from fake_engine import FakeEngine

from layerbridge.serving.engine import EngineDownError
from layerbridge.serving.keys import Keys
from layerbridge.serving.limits import Limits
from layerbridge.serving.requests import Token

SINHALA = "ශ්‍රී ලංකා රුපියල"
MESSAGES = [{"role": "user", "content": SINHALA}]


def write(ask):
    """The text itself, unless that says what to do; and then the seed."""
    seed = "" if ask.sampling.seed is None else f" {ask.sampling.seed}"
    return f" {ask.text}{seed}"


class Obeying(FakeEngine):
    """An engine that fails if the text says so."""

    async def generate(self, ask):
        if ask.text == "fail":
            raise RuntimeError("secret")
        if ask.text == "down":
            raise EngineDownError
        if ask.text == "wait":
            await asyncio.sleep(30)
        async for event in super().generate(ask):
            yield event
            if ask.text == "break" and isinstance(event, Token):
                raise EngineDownError


@pytest.fixture(scope="module")
def address(serve):
    limits = Limits(timeout_s=1, max_body_bytes=5000)
    with serve(Obeying(write), limits=limits, keys=Keys(["a-key"])) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="a-key", max_retries=0) as client:
        yield client


def test_models(client):
    found = client.models.list().data
    assert [model.id for model in found] == ["demo", "runs/two"]
    assert found[0].owned_by == "layerbridge"
    assert client.models.retrieve("runs/two") == found[1]


def test_chat(client):
    reply = client.chat.completions.create(model="demo", messages=MESSAGES, max_tokens=200)
    assert reply.choices[0].message.content == SINHALA
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.prompt_tokens == len(SINHALA) + 1
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_chat_streamed(client):
    options = {"include_usage": True}
    with client.chat.completions.create(
        model="demo", messages=MESSAGES, max_tokens=200, stream=True, stream_options=options
    ) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == SINHALA
    assert [c.choices[0].finish_reason for c in chunks[:-1]][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.prompt_tokens == len(SINHALA) + 1


def test_the_clients_own_stream_helper(client):
    with client.chat.completions.stream(model="demo", messages=MESSAGES, max_tokens=200) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == SINHALA


def test_completions(client):
    reply = client.completions.create(model="demo", prompt=["a", "b"], n=2, seed=5, temperature=1)
    assert [choice.text for choice in reply.choices] == [" a 5", " a 6", " b 5", " b 6"]
    stream = client.completions.create(model="demo", prompt="a", n=2, seed=5, stream=True)
    texts = ["", ""]
    for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [" a 5", " a 6"]


def test_n_stop_and_logprobs(client):
    reply = client.chat.completions.create(
        model="demo", messages=MESSAGES, n=2, seed=1, stop=[" ල"], logprobs=True, top_logprobs=1
    )
    assert [choice.message.content for choice in reply.choices] == ["ශ්‍රී"] * 2
    content = reply.choices[0].logprobs.content
    # Chat leaves the space before it out of the text, and its token here.
    assert b"".join(bytes(token.bytes) for token in content).decode().strip() == "ශ්‍රී"
    assert content[0].top_logprobs[0].logprob == content[0].logprob == -0.5
    reply = client.completions.create(model="demo", prompt="ab", logprobs=2)
    logprobs = reply.choices[0].logprobs
    assert "".join(logprobs.tokens) == reply.choices[0].text == " ab"
    assert len(logprobs.top_logprobs[0]) == 2


def test_fields_of_our_own(client):
    extra = {"instruction": "Translate.", "ignore_eos": True}
    reply = client.completions.create(model="demo", prompt="a", extra_body=extra)
    assert reply.choices[0].text == " a"


@pytest.mark.parametrize(
    ("text", "settings", "kind", "message"),
    [
        ("a", {"model": "none"}, openai.NotFoundError, "unknown model 'none'"),
        ("a", {"temperature": 3}, openai.BadRequestError, "temperature: Input should be"),
        ("a", {"n": 9}, openai.BadRequestError, "n: 9 answers; allowed: at most 8"),
        ("x" * 6000, {}, openai.APIStatusError, "the request body is too long"),
        ("fail", {}, openai.InternalServerError, "internal server error"),
        ("down", {}, openai.InternalServerError, "the engine is down"),
        ("wait", {"stream": True}, openai.InternalServerError, "no answer within 1 seconds"),
    ],
)
def test_errors(client, text, settings, kind, message):
    with pytest.raises(kind) as caught:
        client.completions.create(**{"model": "demo", "prompt": text, **settings})
    assert message in caught.value.body["message"]
    assert "Traceback" not in caught.value.response.text
    assert "secret" not in caught.value.response.text


def test_an_error_in_the_middle_of_a_stream(client):
    stream = client.completions.create(model="demo", prompt="break", stream=True)
    with pytest.raises(openai.APIError, match="the engine is down"):
        list(stream)


def test_a_wrong_key(address):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="other", max_retries=0)
    with pytest.raises(openai.AuthenticationError, match="missing or invalid API key"):
        client.models.list()


def test_busy(serve, eventually):
    engine = FakeEngine(pause_s=30)
    with serve(engine, limits=Limits(concurrency=1, queue=0)) as address:
        leaving = openai.OpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0, timeout=0.5)

        async def both():
            first = asyncio.to_thread(leaving.completions.create, model="demo", prompt="a")
            task = asyncio.create_task(first)
            while not engine.running:
                await asyncio.sleep(0.005)
            with pytest.raises(openai.RateLimitError, match="the server is busy"):
                await asyncio.to_thread(leaving.completions.create, model="demo", prompt="a")
            with pytest.raises(openai.APITimeoutError):
                await task

        asyncio.run(both())
        # The client's own timeout closed its connection, which made room.
        eventually(lambda: engine.running == 0)


def test_many_at_once_get_their_own_answers(serve):
    engine = FakeEngine(write, pause_s=0.001)
    with serve(engine, limits=Limits(concurrency=8)) as address:

        async def all_of_them():
            http = httpx.AsyncClient(limits=httpx.Limits(max_connections=20))
            async with openai.AsyncOpenAI(
                base_url=f"{address}/v1", api_key="-", max_retries=0, http_client=http
            ) as client:

                async def one(number):
                    text = f"marker {number}"
                    reply = await client.completions.create(model="demo", prompt=text)
                    assert reply.choices[0].text == f" {text}"

                await asyncio.gather(*map(one, range(60)))

        asyncio.run(all_of_them())
        assert engine.most_running <= 8
