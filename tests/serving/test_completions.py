"""What fails in the torch engine is one request: the others get the answers they get alone."""

import asyncio
import copy

import pytest
import torch

from layerbridge.errors import DataError, LengthError, NotFiniteError
from layerbridge.hub.sources import resolve
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.decoding import Decoding
from layerbridge.serving.errors import to_api_error
from layerbridge.serving.requests import (
    Finished,
    Prompt,
    Question,
    Sampling,
    Started,
    Token,
)
from layerbridge.serving.torch_engine import TorchEngine

BAD = "a bad text"
TEXTS = ["The market rose", BAD, "ශ්‍රී ලංකාව", "a", "the teams of the market"]
OPTIONS = ("sports", "business", "rain")
SEED = 666  # marks the bad row where there is no text any more


@pytest.fixture
def bridges(make_bridge, folder):
    return Bridges({"b": make_bridge()}, resolve(str(folder("llama"))))


@pytest.fixture
def together(bridges):
    """All the calls at once, in one batch: their results or exceptions; the engine stays up."""

    def run(*calls, before=lambda: None, **settings):
        async def whole():
            engine = TorchEngine(lambda: bridges, wait_ms=20, **settings)
            await engine.start()
            before()
            try:
                results = await asyncio.wait_for(
                    asyncio.gather(*(call(engine) for call in calls), return_exceptions=True), 60
                )
                # Whoever comes afterwards is served too.
                assert await tokens(engine, "a", 2)
                assert engine.state == "ready"
                return results
            finally:
                await engine.stop()

        return asyncio.run(whole())

    return run


async def tokens(engine, text, count=6, instruction=None, **settings):
    """The ids of the tokens; ``Started`` comes first and ``Finished`` last."""
    sampling = Sampling(max_tokens=count, ignore_eos=True, **settings)
    events = [event async for event in engine.generate(Prompt("b", text, instruction, sampling))]
    assert isinstance(events[0], Started)
    assert events[-1] == Finished("length")
    assert all(isinstance(event, Token) for event in events[1:-1])
    return [event.id for event in events[1:-1]]


def asking(text, count=6, **settings):
    settings.setdefault("seed", SEED if text == BAD else 1)
    return lambda engine: tokens(engine, text, count, **settings)


def expected(bridge, text, count=6, instruction=None):
    ids = bridge.generate(
        hidden_states=bridge.encode([text]),
        instruction=instruction,
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=[-1],
    )
    return ids[0].tolist()


def fails_for_bad_rows(real, error):
    """A method of ``Decoding`` that fails for a batch with the bad row."""

    def method(self, *arguments):
        rows = self.rows if hasattr(self, "rows") else arguments[2]
        if any(row.sampling.seed == SEED for row in rows):
            raise error
        return real(self, *arguments)

    return method


def fail_where_the_bad_text_is(monkeypatch, bridges, where, error):
    """Makes one stage of the engine fail for the bad text, whatever is in its batch."""
    bridge = bridges["b"]
    if where == "encode":
        encode = bridge.encode

        def fail(texts, *_):
            if BAD in texts:
                raise error
            return encode(texts)

        monkeypatch.setattr(bridge, "encode", fail)
    elif where == "tokenize":
        tokenize = bridge.encoder.tokenize

        def fail(texts, *_):
            if BAD in texts:
                raise error
            return tokenize(texts)

        monkeypatch.setattr(bridge.encoder, "tokenize", fail)
    else:
        real = getattr(Decoding, where)
        monkeypatch.setattr(Decoding, where, fails_for_bad_rows(real, error))


WRONG = RuntimeError("a kernel failed")
SHORT = torch.OutOfMemoryError("no more")


@pytest.mark.parametrize(
    ("where", "error", "kind"),
    [
        *((where, WRONG, RuntimeError) for where in ("tokenize", "encode", "__init__")),
        *((where, WRONG, RuntimeError) for where in ("sample", "keep", "advance")),
        *((where, SHORT, MemoryError) for where in ("encode", "__init__", "advance")),
        ("encode", DataError("a token beyond the table"), DataError),
    ],
)
def test_a_failure_is_that_of_one_completion(together, bridges, monkeypatch, where, error, kind):
    wanted = [expected(bridges["b"], text) for text in TEXTS]

    def stage():
        fail_where_the_bad_text_is(monkeypatch, bridges, where, error)

    results = together(*map(asking, TEXTS), before=stage)
    for text, result, ids in zip(TEXTS, results, wanted, strict=True):
        if text == BAD:
            assert type(result) is kind
        else:
            assert result == ids


def test_a_failure_that_comes_late_costs_nobody_a_token(together, bridges, monkeypatch):
    """Rows are continued from where they were, with their own random states."""
    how = {"temperature": 1.5, "top_p": 0.9}
    calls = [asking(text, 9, **how) for text in TEXTS]
    whole = together(*calls)
    advance, steps = Decoding.advance, []

    def fail(self, ids):
        if any(row.sampling.seed == SEED for row in self.rows):
            steps.append(len(self.rows))
            if len(steps) > 4:
                raise RuntimeError("late")
        advance(self, ids)

    def stage():
        monkeypatch.setattr(Decoding, "advance", fail)

    results = together(*calls, before=stage)
    assert steps == [5, 5, 5, 5, 5, 1]
    for text, result, ids in zip(TEXTS, results, whole, strict=True):
        assert isinstance(result, RuntimeError) if text == BAD else result == ids


def test_batches_that_fail_to_join_are_continued_alone(together, bridges, monkeypatch):
    wanted = [expected(bridges["b"], text) for text in TEXTS]
    joins = []

    def fail(self, other):
        joins.append(len(other.rows))
        self.rows += other.rows  # half done
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(Decoding, "join", fail)
    monkeypatch.setattr("layerbridge.serving.bridges.CPU_TOKENS", 20)
    assert together(*map(asking, TEXTS)) == wanted
    assert joins


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("step", [0, 2])
def test_numbers_that_are_none_end_one_completion(together, bridges, monkeypatch, number, step):
    wanted = [expected(bridges["b"], text) for text in TEXTS]
    sample, seen = Decoding.sample, []

    def spoiled(self):
        for index, row in enumerate(self.rows):
            if row.sampling.seed == SEED:
                seen.append(1)
                if len(seen) > step:
                    # One is enough, unless it is -∞, which only rules out a token.
                    place = slice(None) if number == -torch.inf else 3
                    self.logits[index, place] = number
        return sample(self)

    monkeypatch.setattr(Decoding, "sample", spoiled)
    results = together(*map(asking, TEXTS))
    for text, result, ids in zip(TEXTS, results, wanted, strict=True):
        if text == BAD:
            assert isinstance(result, NotFiniteError)
            assert result.what == "the language model's logits"
            assert "check the weights" in result.hint
        else:
            assert result == ids


def test_encoder_states_that_are_no_numbers_are_told(together, bridges, monkeypatch):
    """As of an encoder that overflows in float16: no empty answer, no NaN in a response."""
    bridge = bridges["b"]
    wanted = [expected(bridge, text) for text in TEXTS]
    scores = bridge.classify(TEXTS, OPTIONS)
    encode = bridge.encode

    def overflow(texts, *_):
        states = encode(texts)
        for layer in states.layers:
            layer[[text == BAD for text in texts]] = torch.nan
        return states

    def choose(text):
        return lambda engine: engine.classify(Question("b", text, OPTIONS))

    def weigh(text):
        return lambda engine: engine.layer_weights("b", text)

    results = together(
        *(make(text) for make in (asking, choose, weigh) for text in TEXTS),
        before=lambda: monkeypatch.setattr(bridge, "encode", overflow),
    )
    for place, text in enumerate(TEXTS):
        ids, choice, weighed = results[place :: len(TEXTS)]
        if text == BAD:
            assert {type(each) for each in (ids, choice, weighed)} == {NotFiniteError}
        else:
            assert ids == wanted[place]
            assert choice.scores == pytest.approx(scores[place].scores, abs=1e-4)
            assert weighed.weights.isfinite().all()


def test_a_text_with_a_token_beyond_the_table_is_its_senders_mistake(
    together, bridges, monkeypatch
):
    encoder = bridges["b"].encoder
    monkeypatch.setattr(encoder, "tokenizer", copy.deepcopy(encoder.tokenizer))
    encoder.tokenizer.add_tokens(["<image>"])
    text = "a <image>"
    errors = together(
        asking(text),
        lambda engine: engine.classify(Question("b", text, OPTIONS)),
        lambda engine: engine.layer_weights("b", text),
    )
    assert {(to_api_error(error).status, to_api_error(error).code) for error in errors} == {
        (400, "invalid_value")
    }


@pytest.mark.parametrize("broken", ["option_scores", "layer_weights"])
def test_a_failure_is_that_of_one_question(together, bridges, monkeypatch, broken):
    bridge = bridges["b"]
    wanted = bridge.classify(TEXTS, OPTIONS)
    real = {name: getattr(bridge, name) for name in ("encode", "layer_weights")}

    def failing(name):
        def fail(texts, *_):
            if BAD in texts:
                raise RuntimeError("a kernel failed")
            return real[name](texts)

        return fail

    def stage():
        name = "encode" if broken == "option_scores" else broken
        monkeypatch.setattr(bridge, name, failing(name))

    asked = {
        "option_scores": lambda text: lambda e: e.classify(Question("b", text, OPTIONS)),
        "layer_weights": lambda text: lambda e: e.layer_weights("b", text),
    }
    results = together(*map(asked[broken], TEXTS), before=stage)
    for text, result, right in zip(TEXTS, results, wanted, strict=True):
        if text == BAD:
            assert isinstance(result, RuntimeError)
        elif broken == "option_scores":
            assert result.choice == right.choice
        else:
            assert result.tokens


LONG = "word " * 2000


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda e: e.classify(Question("b", "a", ("x", "x"))), "duplicate option 'x'"),
        (lambda e: e.classify(Question("b", "a", ("x", " "))), "an option is empty"),
        (lambda e: e.classify(Question("b", "a", ())), "there are no options to choose from"),
        (lambda e: e.classify(Question("b", "a")), "there are no options to choose from"),
        (
            lambda e: e.classify(Question("b", "a", OPTIONS, LONG)),
            "text, instruction and options come to",
        ),
        (
            lambda e: e.classify(Question("b", "a", ("x", "é" * 499))),
            "text, instruction and options come to",
        ),
        (
            lambda e: e.classify(Question("b", "a", tuple(f"{n} " * 99 for n in range(99)))),
            "options: ",
        ),
        (lambda e: tokens(e, "a", instruction=LONG), "text and instruction come to"),
    ],
)
def test_what_cannot_be_asked_is_told_to_who_asks_it(together, bridges, monkeypatch, call, problem):
    monkeypatch.setattr(bridges.language_model, "max_tokens", 900)
    wanted = expected(bridges["b"], "a")
    encoded = []
    encode = bridges["b"].encode

    def count(texts, *_):
        encoded.append(len(texts))
        return encode(texts)

    monkeypatch.setattr(bridges["b"], "encode", count)
    wrong, choice, ids = together(
        call, lambda e: e.classify(Question("b", "a", OPTIONS)), asking("a")
    )
    assert isinstance(wrong, LengthError if "come to" in problem else DataError)
    assert str(wrong).startswith(problem)
    assert choice.choice in OPTIONS
    assert ids == wanted
    assert sum(encoded) == 3  # what is refused is not run: the third is the one afterwards


@pytest.mark.parametrize("temperature", [5e-324, 1e-45, 1e-38, 1e-9])
def test_next_to_no_temperature_takes_the_most_likely_token(together, bridges, temperature):
    wanted = [expected(bridges["b"], text) for text in TEXTS]
    how = {"temperature": temperature}
    assert together(*(asking(text, **how) for text in TEXTS)) == wanted
    assert together(*(asking(text, top_p=5e-324, **how) for text in TEXTS)) == wanted


@pytest.mark.parametrize("instruction", ["", " ", "\n"])
def test_an_empty_instruction_is_none(together, bridges, instruction):
    bridge = bridges["b"]
    without = [expected(bridge, text, instruction=instruction) for text in TEXTS]
    assert together(*(asking(text, instruction=instruction) for text in TEXTS)) == without
    if not instruction:
        assert without == [expected(bridge, text) for text in TEXTS]


def test_prompts_are_counted_as_they_are_made(bridges, make_bridge, folder):
    more = Bridges(
        {"plain": make_bridge(boundary=False), "asks": make_bridge(instruction="Which?")},
        resolve(str(folder("llama"))),
    )
    for name in more:
        for instruction in (None, "", "What is it?"):
            made = more.embeds([Prompt(name, text, instruction) for text in TEXTS])
            assert more.prompt_tokens(name, TEXTS, instruction) == list(map(len, made))
