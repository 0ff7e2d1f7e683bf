"""The server ends when it is told to, and when its engine is given up, whatever hangs or breaks."""

import asyncio
import os
import signal
import threading
import time

import httpx
import pytest
from fake_engine import FakeEngine

from layerbridge.errors import BackboneError, LayerBridgeError
from layerbridge.serving import server as module
from layerbridge.serving.app import create_app
from layerbridge.serving.engine import EngineDownError
from layerbridge.serving.server import serve
from layerbridge.serving.supervised import Supervised


class Unstartable(FakeEngine):
    def __init__(self, error):
        super().__init__()
        self.error = error

    async def start(self):
        self.state = "down"
        raise self.error


@pytest.fixture
def left(monkeypatch):
    """The exit codes with which the process would have ended by force."""
    codes = []
    monkeypatch.setattr(module.os, "_exit", codes.append)
    monkeypatch.setattr(module, "_leave_at_exit", codes.append)
    return codes


@pytest.fixture
def served(monkeypatch, left):
    """Runs the server in this thread; ``act(address, signalled)`` in another, once it is ready."""
    servers = []
    real = module._Server.__init__

    def note(self, *arguments):
        real(self, *arguments)
        servers.append(self)

    monkeypatch.setattr(module._Server, "__init__", note)

    def run(
        engine, act=lambda *_: None, *, wait=lambda engine: engine.state == "ready", **settings
    ):
        supervised = Supervised(engine, check_s=0.001, delays_s=(0.0,), max_failures=2)
        engine.supervised = supervised
        wrong = []

        def other():
            try:
                end = time.monotonic() + 10
                while not (servers and servers[0].started and wait(engine)):
                    assert time.monotonic() < end
                    time.sleep(0.002)
                act(servers[0]._url, lambda: servers[0].handle_exit(signal.SIGTERM, None))
            except BaseException as error:
                wrong.append(error)
                servers[0].should_exit = True

        thread = threading.Thread(target=other)
        thread.start()
        try:
            serve(create_app(supervised), supervised, port=0, **settings)
        finally:
            thread.join()
            assert not wrong, wrong

    return run


def stop(address, signalled):
    signalled()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            EngineDownError("vLLM failed to start (no memory); see its log"),
            LayerBridgeError,
        ),
        (BackboneError("there is no language model 'x'"), BackboneError),
    ],
)
def test_an_engine_that_does_not_start_ends_the_server_with_the_reason(error, kind, caplog, left):
    engine = Supervised(Unstartable(error))
    with pytest.raises(kind) as told:
        serve(create_app(engine), engine, port=0)
    assert str(told.value) == str(error)
    # In one line, which is the user's to read: no traceback.
    (record,) = [found for found in caplog.records if "failed to start:" in found.message]
    assert record.exc_info is None
    assert str(error) in record.message
    assert left == []


def test_a_signal_ends_it(served, left, capsys):
    served(FakeEngine(), stop)
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")
    assert left == []


def test_an_engine_that_fails_again_and_again_ends_it(served, left):
    engine = FakeEngine()

    def fail(address, signalled):
        while engine.supervised.error is None:
            engine.state = "down"
            time.sleep(0.005)

    with pytest.raises(
        LayerBridgeError, match="giving up on the fake engine: it failed 2 times in a row"
    ):
        served(engine, fail)
    assert engine.supervised.restarts == 1
    assert left == []


def test_a_lost_device_ends_it_at_once(served):
    engine = FakeEngine()

    def lose(address, signalled):
        engine.lost, engine.state = "cuda:0 no longer works", "down"

    with pytest.raises(
        LayerBridgeError, match="giving up on the fake engine: cuda:0 no longer works"
    ):
        served(engine, lose)


@pytest.mark.parametrize("gone", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_without_a_reader_it_serves_and_ends_all_the_same(served, monkeypatch, gone):
    """As in ``layerbridge serve RUN | true``."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    for name in gone:
        monkeypatch.setattr(module.sys, name, stream)

    def act(address, signalled):
        time.sleep(0.15)  # it has printed its address meanwhile
        assert httpx.get(f"{address}/readyz").status_code == 200
        signalled()

    served(FakeEngine(), act)
    if "stdout" in gone:
        # What is left in the buffer goes nowhere, so that flushing it at exit does not fail.
        stream.write("rest")
        stream.flush()
    else:
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
    stream.close()


def test_a_watcher_that_fails_ends_the_server(served, monkeypatch, caplog):
    """Without it no signal would count any more."""

    async def watch(self):
        await asyncio.sleep(0.02)
        raise RuntimeError("a mistake")

    monkeypatch.setattr(module._Server, "_watch", watch)
    with pytest.raises(RuntimeError, match="a mistake"):
        served(FakeEngine())
    assert "the server stops" in caplog.text


def test_a_signal_while_the_engine_starts_ends_it(served, left):
    """As Ctrl-C while the models are loaded, or while vLLM compiles."""
    began = time.monotonic()
    served(FakeEngine(start_s=60), stop, wait=lambda engine: True)
    assert time.monotonic() - began < 5
    assert left == []


def test_a_thread_that_is_still_loading_does_not_keep_the_process(served, left):
    released = threading.Event()
    thread = threading.Thread(target=released.wait, name="layerbridge loading", daemon=True)
    thread.start()
    served(FakeEngine(), stop)
    released.set()
    assert left == [0]


def test_two_signals_do_not_wait_for_answers(served, left):
    engine = FakeEngine(pause_s=60)
    replies = []

    def act(address, signalled):
        def ask():
            body = {"model": "demo", "prompt": "a"}
            replies.append(httpx.post(f"{address}/v1/completions", json=body, timeout=20))

        thread = threading.Thread(target=ask)
        thread.start()
        while not engine.running:
            time.sleep(0.002)
        signalled()
        time.sleep(0.1)
        assert thread.is_alive()
        signalled()
        thread.join()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GRACE_S", 0.2)
        served(engine, act)
    assert replies[0].status_code in (500, 503)
    assert left == []


def test_a_third_signal_waits_for_nothing(served, left):
    def act(address, signalled):
        for _ in range(3):
            signalled()

    engine = FakeEngine()
    engine.stop = hanging(left)
    served(engine, act)
    assert left[0] == 128 + signal.SIGTERM


def hanging(left, pause=asyncio.sleep):
    """Something that ends only when the process would have been killed."""

    async def hang():
        for _ in range(1000):
            if left:
                break
            if (waiting := pause(0.005)) is not None:
                await waiting

    return hang


@pytest.mark.parametrize("hangs", ["the engine", "the loop"])
def test_what_hangs_is_killed(served, left, monkeypatch, hangs):
    """An engine that does not stop; a loop that runs no timer, so that nothing in it can help."""
    monkeypatch.setattr(module, "EXIT_S", 0.1)
    engine = FakeEngine()
    engine.stop = hanging(left, time.sleep if hangs == "the loop" else asyncio.sleep)
    served(engine, stop, drain_s=0.0)
    assert left[0] == module.KILLED


@pytest.mark.parametrize(
    ("host", "has_keys", "warned"),
    [
        ("127.0.0.1", False, False),
        ("localhost", False, False),
        ("::1", False, False),
        ("0.0.0.0", False, True),
        ("0.0.0.0", True, False),
        ("::", False, True),
    ],
)
def test_others_are_let_in_without_a_key_only_with_a_warning(
    capsys, monkeypatch, host, has_keys, warned
):
    monkeypatch.setattr(module._Server, "run", lambda self, sockets: None)
    engine = Supervised(FakeEngine())
    serve(create_app(engine), engine, host, 0, has_keys=has_keys)
    told = capsys.readouterr().err
    assert ("warning: no API keys are set: anyone who can reach http" in told) == warned
