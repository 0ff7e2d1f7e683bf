"""benchmarks/soak for a moment, and that it would notice what it is for."""

import asyncio
import json
import os
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from layerbridge.models.backbone import LoadOptions
from layerbridge.serving.app import create_app
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.server import _Server, listen
from layerbridge.serving.supervised import Supervised
from layerbridge.serving.torch_engine import TorchEngine

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak"
MODULES = ("expected", "tally", "client", "memory", "work", "course")


@pytest.fixture(scope="module")
def soak():
    """Its modules, which find each other because they lie beside ``__main__``."""
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(SOAK))
    kept = {name: sys.modules.pop(name, None) for name in MODULES}
    try:
        found = {name: import_module(name) for name in MODULES}
    finally:
        for name, module in kept.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
        patch.undo()
    return SimpleNamespace(**found)


class InProcess:
    """The server in a thread instead of a process of its own, which would take seconds to start."""

    def __init__(self, arguments, python):
        self.arguments = arguments

    async def __aenter__(self):
        bridges = Bridges.load(self.arguments[:1], LoadOptions(dtype="float32"))
        supervised = Supervised(TorchEngine(lambda: bridges))
        listening = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self.server = _Server(create_app(supervised), supervised, self.url, 60.0)
        self.ended = asyncio.create_task(asyncio.to_thread(self.server.run, [listening]))
        self.process = SimpleNamespace(
            pid=os.getpid(), returncode=None, wait=self.wait, send_signal=self.signal
        )
        while not (self.server.started and supervised.state == "ready"):
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_):
        self.server.should_exit = True
        await self.ended
        self.server.last_resort.cancel()

    async def wait(self):
        await self.ended
        return 0 if self.server.error is None else 1

    def signal(self, number):
        self.server.handle_exit(number, None)

    def errors(self):
        return ""


def test_a_moment_of_it(soak, make_bridge, tmp_path, monkeypatch):
    monkeypatch.setattr(soak.work, "REST_S", 0.1)
    monkeypatch.setattr(soak.course, "Server", InProcess)
    # Few of each are enough here, and short texts save most of the time.
    monkeypatch.setattr(soak.expected, "INSTRUCTIONS", (None, " is the"))
    monkeypatch.setattr(soak.expected, "SIZES", ((2, 1), (5, 12), (80, 1)))
    monkeypatch.setattr(soak.expected, "LONG", 16)
    monkeypatch.setattr(soak.client, "LONG", 16)
    make_bridge().save_pretrained(tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"max_text_tokens": 512', '"max_text_tokens": 48'))
    words = [str(tmp_path / "run"), "--minutes", "0.025", "--concurrency", "8", "--questions", "5"]
    found = asyncio.run(soak.course.soak(soak.course.parser().parse_args(words)))
    assert found["failures"] == []
    assert [found[name] for name in ("wrong", "mixed_up", "lost", "server_errors")] == [0] * 4
    assert found["questions"] >= 5
    assert found["replies"] == sum(found["kinds"].values()) > 10
    assert found["memory"]["samples"] > 10
    assert found["memory"]["growth"] < 0.5  # too short a time to tell a leak
    drain = found["drain"]
    assert drain["exit_code"] == 0
    assert drain["told_503"] > 0
    assert drain["lost"] == 0
    assert drain["seconds"] < 60


def test_options_of_all_sizes_are_asked_and_checked(soak, make_bridge, monkeypatch):
    bridge = make_bridge()
    question = soak.expected.Expected("a text", " is", (), None, {}, [])
    sized = soak.expected.with_sizes(bridge, question).sized
    assert [len(scores) for scores in sized] == [count for count, _ in soak.expected.SIZES]
    lengths = [max(map(len, scores)) for scores in sized]
    assert min(lengths) < 20
    assert 300 < max(lengths) <= 500
    (wanted,) = bridge.classify(["a text"], list(sized[0]), instruction=" is")
    assert sized[0] == wanted.scores

    asked = replace(question, sized=sized)
    state = SimpleNamespace(
        url="http://x", model="m", tally=soak.tally.Tally(), expected=[question, asked]
    )
    client = soak.client.Client(state, 0)

    def reply(body, change):
        scores = next(each for each in sized if list(each) == body["options"])
        options = [{"option": one, "score": score + change} for one, score in scores.items()]
        return soak.client.Reply(200, {}, 0.0, json.dumps({"options": options}).encode())

    async def ask(change):
        async def answer(path, body):
            return reply(body, change)

        monkeypatch.setattr(client, "ask", answer)
        for _ in range(12):
            await client.all_sizes()

    asyncio.run(ask(0.0))
    with pytest.raises(soak.tally.WrongError):
        asyncio.run(ask(100.0))


@pytest.fixture
def client(soak):
    def expected(word):
        prefixes = tuple(word * count for count in range(soak.expected.SHORT + 3))
        return soak.expected.Expected(word, None, prefixes, None, {}, [])

    work = SimpleNamespace(
        url="http://x",
        tally=soak.tally.Tally(),
        expected=[expected("a"), expected("b")],
        signalled=None,
    )
    return soak.client.Client(work, 0)


def test_a_reply_to_another_request_is_noticed(soak, client):
    ours, other = client.soak.expected
    client.check("aaa", ours, "aaa")
    assert client.tally.counts == {}
    client.check(other.prefixes[-1], ours, ours.prefixes[-1])
    assert client.tally.counts["mixed_up"] == 1
    with pytest.raises(soak.tally.WrongError):
        client.check("ac", ours, "aa")


def test_streams_without_an_end_and_errors_are_noticed(soak, client):
    chunk = b'{"id": "1", "choices": [{"index": 0, "text": "a"}], "usage": null}'

    def stream(*data):
        return soak.client.Reply(200, {}, 0.0, events=[(0.0, one) for one in data])

    assert client.choices(stream(chunk, b"[DONE]"), 1) == ["a"]
    with pytest.raises(soak.tally.WrongError, match="duplicate id"):
        client.choices(stream(chunk, b"[DONE]"), 1)
    with pytest.raises(soak.client.LostError):
        client.choices(stream(chunk), 1)
    with pytest.raises(soak.tally.WrongError):
        client.choices(stream(chunk, b'{"error": {"code": "x"}}', b"[DONE]"), 1)
    assert client.tally.counts["server_errors"] == 1


def test_statuses_that_must_not_be(soak, client):
    body = b'{"error": {"message": "m", "code": "draining"}}'
    with pytest.raises(soak.tally.WrongError):
        client.seen(soak.client.Reply(503, {}, 0.0, body), 200)
    assert client.tally.counts["server_errors"] == 1
    assert not client.seen(soak.client.Reply(429, {}, 0.0, body), 200)
    client.soak.signalled = 1.0
    with pytest.raises(soak.tally.DrainingError):
        client.seen(soak.client.Reply(503, {"retry-after": "5"}, 0.0, body), 200)
    with pytest.raises(soak.tally.WrongError, match="Retry-After"):
        client.seen(soak.client.Reply(503, {}, 0.0, body), 200)


def test_a_leak_shows(soak):
    load = [(float(second), {"server 1": 100 + second}) for second in range(100)]
    flat = [{"server 1": size} for size in (1000, 1100, 1029)]
    found = soak.memory.flatness(flat, load)
    assert found["flat"]
    assert found["under_load_bytes"] == [112, 137, 162, 186.5]
    assert found["most_bytes"] == 199
    # A helper that was there for a moment is not among those that tell of themselves.
    leak = [{"server 1": 500, "worker 2": 500 + 8 * n} for n in range(5)]
    leak[0]["helper 3"] = 0
    found = soak.memory.flatness(leak, load)
    assert not found["flat"]
    assert found["growth"] == pytest.approx(0.032)
    own = found["at_rest_bytes_by_process"]
    assert own == {"server 1": [500] * 5, "worker 2": [500, 508, 516, 524, 532]}
