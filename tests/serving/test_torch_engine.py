import asyncio
import threading
import time

import pytest

from layerbridge.errors import BackboneError
from layerbridge.hub.sources import resolve
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.engine import EngineDownError, Load
from layerbridge.serving.jobs import LostDeviceError
from layerbridge.serving.requests import Finished, Prompt, Question, Sampling, Started, Token
from layerbridge.serving.torch_engine import TorchEngine

TEXTS = [
    "The market rose",
    "ශ්‍රී ලංකාව",
    "a",
    "مرحبا بالعالم",
    "the teams of the market entertained the crowd",
]
OPTIONS = ("sports", "business", "rain")


@pytest.fixture
def bridges(make_bridge, folder):
    both = {"token": make_bridge(), "last": make_bridge(fusion="last", instruction="Say:")}
    return Bridges(both, resolve(str(folder("llama"))))


@pytest.fixture
def running(bridges):
    """Runs ``body(engine)`` in a loop, with the engine started before and stopped after it."""

    def run(body, *, load=lambda: bridges, **settings):
        async def whole():
            batches = []
            engine = TorchEngine(load, lambda kind, rows: batches.append((kind, rows)), **settings)
            await engine.start()
            try:
                return await asyncio.wait_for(body(engine, batches), 60)
            finally:
                await engine.stop()

        return asyncio.run(whole())

    return run


async def told(engine, ask):
    return [event async for event in engine.generate(ask)]


def expected(bridge, text, count, instruction=None):
    """What the library writes, whatever would end it."""
    ids = bridge.generate(
        hidden_states=bridge.encode([text]),
        instruction=instruction,
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=[-1],
    )
    return ids[0].tolist()


def ask(bridge, text, count=6, **settings):
    return Prompt(bridge, text, sampling=Sampling(max_tokens=count, ignore_eos=True, **settings))


def test_tokens_are_the_librarys_alone_and_under_load(running, bridges):
    async def body(engine, batches):
        alone = [await told(engine, ask("token", text)) for text in TEXTS]
        asks = [
            ask(name, text, 3 + place % 7)
            for place in range(4)
            for name in bridges
            for text in TEXTS
        ]
        together = await asyncio.gather(*(told(engine, one) for one in asks))
        return alone, asks, together, batches

    alone, asks, together, batches = running(body, max_batch=16)
    for text, events in zip(TEXTS, alone, strict=True):
        assert [e.id for e in events if isinstance(e, Token)] == expected(bridges["token"], text, 6)
    whole = {
        (name, text): expected(bridges[name], text, 9, it.config.instruction)
        for name, it in bridges.items()
        for text in TEXTS
    }
    for one, events in zip(asks, together, strict=True):
        begun, *tokens, finished = events
        assert isinstance(begun, Started)
        assert finished == Finished("length")
        wanted = whole[one.bridge, one.text][: one.sampling.max_tokens]
        assert [token.id for token in tokens] == wanted
    decoded = [rows for kind, rows in batches if kind == "decode"]
    assert max(decoded) == 16
    assert sum(decoded) < len(decoded) * 16


def test_an_end_token_ends_it_and_is_not_told(running, bridges):
    ids = expected(bridges["token"], TEXTS[0], 6)
    lm = bridges.language_model
    before, lm.eos_id = lm.eos_id, ids[3]
    try:
        events = running(lambda engine, _: told(engine, Prompt("token", TEXTS[0])))
    finally:
        lm.eos_id = before
    first = ids.index(ids[3])
    assert [event.id for event in events[1:-1]] == ids[:first]
    assert events[-1] == Finished("stop")


def test_the_prompt_is_counted(running, bridges):
    bridge = bridges["last"]
    events = running(lambda engine, _: told(engine, ask("last", TEXTS[1], 1)))
    (prompt,) = bridges.embeds([Prompt("last", TEXTS[1])])
    assert events[0] == Started(len(prompt))
    assert len(events) == 3
    assert bridge.config.instruction == "Say:"


def test_seeds_hold_in_company(running):
    async def body(engine, _):
        how = {"temperature": 1.5, "top_p": 0.9}
        alone = await told(engine, ask("token", TEXTS[0], 8, seed=7, **how))
        crowd = [ask("token", text, 9, **how) for text in TEXTS]
        again, *_ = await asyncio.gather(
            told(engine, ask("token", TEXTS[0], 8, seed=7, **how)),
            *(told(engine, one) for one in crowd),
        )
        other = await told(engine, ask("token", TEXTS[0], 8, seed=8, **how))
        return alone, again, other

    alone, again, other = running(body)
    assert alone == again
    assert alone != other


def test_logprobs_only_where_they_were_asked_for(running):
    async def body(engine, _):
        return await asyncio.gather(
            told(engine, ask("token", "a", 2)), told(engine, ask("token", "a", 2, logprobs=2))
        )

    without, with_them = running(body)
    assert [token.logprob for token in without[1:-1]] == [None, None]
    for token in with_them[1:-1]:
        assert token.logprob < 0
        assert token.top[0] == (token.id, token.logprob)
        assert len(token.top) == 2


def test_classify_and_weights_are_the_librarys(running, bridges):
    async def body(engine, batches):
        questions = [Question(name, text, OPTIONS) for name in bridges for text in TEXTS]
        questions += [Question("token", TEXTS[0], OPTIONS, "Pick:", "mean")]
        answers = await asyncio.gather(
            *(engine.classify(question) for question in questions),
            *(engine.layer_weights("token", text) for text in TEXTS),
        )
        return questions, answers, batches

    questions, answers, batches = running(body)
    for question, answer in zip(questions, answers, strict=False):
        (wanted,) = bridges[question.bridge].classify(
            question.text,
            OPTIONS,
            instruction=question.instruction,
            length_normalization=question.normalize,
        )
        assert answer.choice == wanted.choice
        assert answer.scores == pytest.approx(wanted.scores, abs=1e-4)
    for text, weights in zip(TEXTS, answers[len(questions) :], strict=True):
        (wanted,) = bridges["token"].layer_weights(text)
        assert weights.tokens == wanted.tokens
        assert weights.weights.allclose(wanted.weights, atol=1e-5)
    assert ("classify", 5) in batches
    assert ("encode", 5) in batches


def test_labels_are_the_librarys_choices(running, bridges):
    """In company of free text, with the prompt counted as for that."""

    async def body(engine, batches):
        asks = [Prompt(name, text, options=OPTIONS) for name in bridges for text in TEXTS]
        events = await asyncio.gather(
            *(told(engine, one) for one in asks), *(told(engine, ask("token", t)) for t in TEXTS)
        )
        return asks, events, batches

    asks, events, batches = running(body)
    language_model = bridges.language_model
    for one, (begun, *tokens, finished) in zip(asks, events, strict=False):
        (wanted,) = bridges[one.bridge].classify(one.text, OPTIONS)
        assert [token.id for token in tokens] == language_model.token_ids(wanted.choice)
        assert begun.prompt_tokens == len(bridges.embeds([one])[0])
        assert begun.classification.any_option == pytest.approx(wanted.any_option, rel=1e-3)
        assert finished == Finished("stop")
    assert ("classify", 5) in batches
    for text, free in zip(TEXTS, events[len(asks) :], strict=True):
        ids = [event.id for event in free if isinstance(event, Token)]
        assert ids == expected(bridges["token"], text, 6)


def test_no_more_tokens_than_the_model_can_read(running, bridges):
    lm = bridges.language_model
    (prompt,) = bridges.embeds([Prompt("token", "a")])
    before, lm.max_tokens = lm.max_tokens, len(prompt) + 3
    try:
        events = running(lambda engine, _: told(engine, ask("token", "a", 50)))
    finally:
        lm.max_tokens = before
    assert len([event for event in events if isinstance(event, Token)]) == 3
    assert events[-1] == Finished("length")


def test_who_leaves_is_written_for_no_longer(running):
    async def body(engine, batches):
        stream = engine.generate(ask("token", "a", 50))
        async for event in stream:
            if isinstance(event, Token):
                break
        await stream.aclose()
        task = asyncio.create_task(told(engine, ask("token", "a", 50)))
        while engine.load.running == 0:
            await asyncio.sleep(0.001)
        task.cancel()
        while engine.load != Load(0, 0):
            await asyncio.sleep(0.001)
        return len([1 for kind, _ in batches if kind == "decode"])

    assert running(body) < 100


def test_who_leaves_the_queue_is_never_begun(running):
    async def body(engine, batches):
        long = asyncio.create_task(told(engine, ask("token", "a", 40)))
        while engine.load.running == 0:
            await asyncio.sleep(0.001)
        waiting = asyncio.create_task(told(engine, ask("token", "b", 40)))
        await asyncio.sleep(0)
        assert engine.load.waiting == 1
        waiting.cancel()
        await long
        await told(engine, ask("token", "c", 1))
        return [rows for kind, rows in batches if kind == "prefill"]

    assert running(body, max_batch=1) == [1, 1]


def test_what_arrives_within_a_moment_is_read_together(running):
    async def body(engine, batches):
        async def later(place):
            await asyncio.sleep(0.002 * place)
            await told(engine, ask("token", "a", 2))

        await asyncio.gather(*map(later, range(4)))
        return [rows for kind, rows in batches if kind == "prefill"]

    assert running(body, wait_ms=500, max_batch=4) == [4]


MIXED = ["a", "the market rose " * 9, "rose", "the teams of the market " * 6]


def read_at_once(engine, batches):
    """The texts' tokens, and how many prompts each pass read."""

    async def both():
        batches.clear()
        found = await asyncio.gather(*(told(engine, ask("token", text)) for text in MIXED))
        tokens = [[e.id for e in events if isinstance(e, Token)] for events in found]
        return tokens, [rows for kind, rows in batches if kind == "prefill"]

    return both()


def test_long_and_short_prompts_are_read_in_passes_of_their_own(running, bridges, monkeypatch):
    monkeypatch.setattr("layerbridge.serving.bridges.CPU_TOKENS", 40)
    tokens, passes = running(read_at_once, wait_ms=500, max_batch=4)
    assert len(passes) > 1
    assert passes[-1] == 2  # the short ones
    assert tokens == [expected(bridges["token"], text, 6) for text in MIXED]


def test_rows_that_cannot_join_are_read_together(running, bridges, monkeypatch):
    monkeypatch.setattr("layerbridge.serving.bridges.CPU_TOKENS", 40)
    monkeypatch.setattr("layerbridge.serving.decoding.Decoding.can_join", False)

    async def twice(engine, batches):
        return [await read_at_once(engine, batches) for _ in range(2)]

    (first, parts), (again, whole) = running(twice, wait_ms=500, max_batch=4)
    assert len(parts) > 1
    assert whole == [4]  # by then it is known
    assert first == again == [expected(bridges["token"], text, 6) for text in MIXED]


def test_a_mistake_of_the_engine_is_told_to_all_and_it_can_be_started_again(
    running, bridges, monkeypatch
):
    loads = []

    def load():
        loads.append(1)
        return bridges

    async def body(engine, _):
        def fail(*_):
            raise RuntimeError("a mistake")

        with monkeypatch.context() as patch:
            patch.setattr("layerbridge.serving.completions.Completions.step", fail)
            lost = await asyncio.gather(
                told(engine, ask("token", "a")),
                told(engine, ask("last", "b")),
                return_exceptions=True,
            )
            while engine.state != "down":
                await asyncio.sleep(0.001)
        with pytest.raises(EngineDownError):
            await engine.classify(Question("token", "a", OPTIONS))
        assert engine.load == Load(0, 0)
        assert engine.lost is None
        await engine.stop()
        await engine.start()
        return lost, await told(engine, ask("token", "a", 2))

    lost, events = running(body, load=load)
    assert [type(error) for error in lost] == [EngineDownError, EngineDownError]
    assert str(lost[0]) == "the engine failed"
    assert events[-1] == Finished("length")
    assert loads == [1]  # the models are still there


@pytest.mark.parametrize("broken", ["encode", "classify", "layer_weights", "decode_step"])
def test_a_lost_device_takes_the_engine_down_for_good(running, bridges, monkeypatch, broken):
    lm, bridge = bridges.language_model, bridges["token"]

    def fail(*_, **__):
        raise RuntimeError("CUDA error: device-side assert triggered")

    def gone(device):
        raise LostDeviceError(f"{device} no longer works: device-side assert triggered")

    async def body(engine, _):
        owner = lm if broken == "decode_step" else bridge
        name = "option_scores" if broken == "classify" else broken
        monkeypatch.setattr(owner, name, fail)
        monkeypatch.setattr("layerbridge.serving.jobs.check_device", gone)
        monkeypatch.setattr("layerbridge.serving.completions.check_device", gone)
        asked = {
            "classify": lambda: engine.classify(Question("token", "a", OPTIONS)),
            "layer_weights": lambda: engine.layer_weights("token", "a"),
        }
        with pytest.raises(EngineDownError, match="the engine failed"):
            await asked.get(broken, lambda: told(engine, ask("token", "a")))()
        assert engine.state == "down"
        assert engine.load == Load(0, 0)
        assert engine.lost == "cpu no longer works: device-side assert triggered"
        await engine.stop()
        with pytest.raises(EngineDownError, match="no longer works"):
            await engine.start()

    running(body)


def test_a_step_that_hangs_does_not_keep_it_from_stopping(running, bridges, monkeypatch):
    monkeypatch.setattr("layerbridge.serving.torch_engine.STOP_S", 0.05)
    hangs, released = threading.Event(), threading.Event()
    real = bridges.language_model.decode_step

    def hang(*arguments):
        hangs.set()
        released.wait(20)
        return real(*arguments)

    async def body(engine, _):
        monkeypatch.setattr(bridges.language_model, "decode_step", hang)
        task = asyncio.create_task(told(engine, ask("token", "a")))
        await asyncio.to_thread(hangs.wait, 20)
        await engine.stop()
        with pytest.raises(EngineDownError, match="the engine was stopped"):
            await task
        assert engine.lost == "the engine's thread did not stop within 0.05 s"
        with pytest.raises(EngineDownError, match="did not stop within"):
            await engine.start()

    try:
        running(body)
    finally:
        released.set()


def test_a_run_that_cannot_be_read():
    def load():
        raise BackboneError("there is no such model")

    async def body():
        engine = TorchEngine(load)
        assert engine.state == "starting"
        with pytest.raises(EngineDownError):
            engine.bridges  # noqa: B018
        with pytest.raises(BackboneError, match="there is no such model"):
            await engine.start()
        assert engine.state == "down"
        await engine.stop()

    asyncio.run(body())


def test_stopping_tells_who_is_waiting(running):
    async def body(engine, _):
        tasks = [asyncio.create_task(told(engine, ask("token", "a", 10_000))) for _ in range(3)]
        while engine.load.running == 0:
            await asyncio.sleep(0.001)
        started = time.monotonic()
        await engine.stop()
        lost = await asyncio.gather(*tasks, return_exceptions=True)
        return lost, time.monotonic() - started

    lost, seconds = running(body, max_batch=2)
    # Those that had the room for it may be done: the model reads no more than so many tokens.
    assert {str(error) for error in lost if isinstance(error, EngineDownError)} == {
        "the engine was stopped"
    }
    assert seconds < 5
