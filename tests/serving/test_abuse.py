"""benchmarks/abuse.py for a moment, and that it would notice what it is for."""

import asyncio
import json
from importlib import import_module
from pathlib import Path

import pytest
from fake_engine import FakeEngine

from layerbridge.serving.limits import Limits
from layerbridge.serving.supervised import Supervised

TEXTS = ["The market rose", "ශ්‍රී ලංකාව", "a"]


@pytest.fixture(scope="module")
def abuse():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        return import_module("abuse")


@pytest.fixture(scope="module")
def good(abuse, tiny_bridges):
    return list(abuse.answers(tiny_bridges["token-softmax"], TEXTS, None))


def run(abuse, address, good, requests, **settings):
    work = abuse.Abuse(address, "token-softmax", good, **{"seed": 0, **settings})
    return asyncio.run(work.run(requests, 8))


def test_a_moment_of_it(abuse, good, serve, tiny_engine):
    with serve(tiny_engine(), limits=Limits(timeout_s=300)) as address:
        found = run(abuse, address, good, 40)
    assert found["failures"] == []
    assert [found[name] for name in ("lost", "wrong", "server_errors")] == [0] * 3
    assert found["engine_restarts"] == 0
    assert found["passed"]
    assert found["good"] >= 5
    assert sum(found["kinds"].values()) == 40
    assert {"200", "400"} <= found["statuses"].keys()


def test_what_is_wrong_is_noticed(abuse, good, serve):
    """An engine that answers something else, fails for some texts and goes down for others."""

    class Bad(FakeEngine):
        async def generate(self, ask):
            if ask.text == "a":
                self.state = "down"
            if ask.sampling.temperature > 0:
                raise RuntimeError("a mistake")
            async for event in super().generate(ask):
                yield event

    engine = Supervised(Bad(), check_s=0.01, delays_s=(0.0,), max_failures=99)
    engine.bridges._bridges["token-softmax"] = engine.bridges["demo"]
    with serve(engine) as address:
        found = run(abuse, address, good, 100)
    assert not found["passed"]
    assert found["wrong"] > 0
    assert found["server_errors"] > 0
    assert found["engine_restarts"] > 0


def test_the_requests_are_those_of_the_seed(abuse):
    def drawn(seed):
        draw = abuse.random.Random(seed)
        kinds = [make for _, make in abuse.KINDS.values()]
        return [repr(make(draw, "m")) for make in kinds for _ in range(4)]

    assert drawn(1) == drawn(1)
    assert len(set(drawn(1))) > 20
    assert drawn(1) != drawn(2)


def test_every_case_can_be_sent(abuse):
    """As JSON where it is not bytes already."""
    draw = abuse.random.Random(0)
    for _, make in abuse.KINDS.values():
        for _ in range(10):
            path, body, statuses = make(draw, "m")
            assert statuses
            assert all(status < 500 for status in statuses)
            assert isinstance(body, bytes) or json.dumps(body)
            assert path in ("", *abuse_paths(abuse))


def abuse_paths(abuse):
    return abuse.COMPLETIONS, abuse.CHAT, abuse.CLASSIFY, abuse.WEIGHTS


def test_the_tiny_run_can_be_served(abuse, tmp_path):
    run = abuse.tiny_run.make(tmp_path)
    name, found = abuse.good_ones(str(run), 2)
    assert name == "tiny"
    assert found
    assert all(one.most >= abuse.SHORT for one in found)
