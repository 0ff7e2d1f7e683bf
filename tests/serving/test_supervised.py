import asyncio

import pytest

from layerbridge.errors import BackboneError
from layerbridge.serving.engine import EngineDownError, Load
from layerbridge.serving.supervised import Supervised


class Fragile:
    """An engine that goes down when it is told to, and may fail to start."""

    name = "fragile"
    bridges = ()
    lost = None
    load = Load(0, 0)

    def __init__(self, failures=()):
        self.failures = list(failures)
        self.state = "starting"
        self.calls = []

    async def start(self):
        self.calls.append("start")
        self.state = "starting"
        await asyncio.sleep(0)
        if self.failures and (error := self.failures.pop(0)) is not None:
            self.state = "down"
            raise error
        self.state = "ready"

    async def stop(self):
        self.calls.append("stop")
        self.state = "down"

    async def classify(self, question):
        if self.state != "ready":
            raise EngineDownError("down")
        return question


async def until(true):
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come true")


def run(body, *failures, delays_s=(0.0,), **settings):
    async def whole():
        engine = Fragile(failures)
        supervised = Supervised(engine, check_s=0.001, delays_s=delays_s, **settings)
        return await body(engine, supervised)

    return asyncio.run(whole())


def test_what_goes_down_is_stopped_and_started_again():
    async def body(engine, supervised):
        await supervised.start()
        assert await supervised.classify("q") == "q"
        for restarts in (1, 2):
            engine.state = "down"
            with pytest.raises(EngineDownError):
                await supervised.classify("q")
            await until(lambda: supervised.state == "ready")
            assert supervised.restarts == restarts
        await supervised.stop()
        return engine.calls

    assert run(body) == ["start", "stop", "start", "stop", "start", "stop"]


def test_it_tries_until_it_starts_and_waits_longer_each_time():
    async def body(engine, supervised):
        clock = asyncio.get_running_loop().time
        await supervised.start()
        began, engine.state = clock(), "down"
        await until(lambda: supervised.state == "ready")
        await supervised.stop()
        return supervised.restarts, clock() - began

    wrong = RuntimeError("not yet")
    restarts, seconds = run(body, None, wrong, wrong, wrong, delays_s=(0.0, 0.01, 0.05))
    assert restarts == 4
    assert seconds >= 0.11  # the last pause is for all that follow


def test_a_first_start_that_fails_is_the_users_to_mend():
    async def body(engine, supervised):
        with pytest.raises(BackboneError):
            await supervised.start()
        await asyncio.sleep(0.02)
        return supervised, engine.calls

    error = BackboneError("there is no such model")
    supervised, calls = run(body, error)
    assert supervised.error is error
    assert calls == ["start"]


def test_after_the_end_nothing_is_started():
    async def body(engine, supervised):
        await supervised.start()
        await supervised.stop()
        await asyncio.sleep(0.02)
        return engine.calls, supervised.state

    assert run(body) == (["start", "stop"], "down")


def test_an_end_while_it_waits_to_try_again(caplog):
    async def body(engine, supervised):
        await supervised.start()
        engine.state = "down"
        await until(lambda: "restarting in 60 s" in caplog.text)
        assert supervised.restarts == 0
        await asyncio.wait_for(supervised.stop(), 5)
        return engine.calls

    assert run(body, delays_s=(60.0,)) == ["start", "stop"]


async def goes_down(engine, supervised, caplog):
    """Takes the engine down, waits until it is ready again, and returns the delay."""
    caplog.clear()
    restarts, engine.state = supervised.restarts, "down"
    await until(lambda: supervised.restarts > restarts and supervised.state == "ready")
    (line,) = [record for record in caplog.records if "restarting in" in record.message]
    return line.args[1]


def test_the_delay_is_the_first_again_only_after_a_stable_time(caplog):
    """Not after the first moment in which it was ready, or a crash at each request is no row."""

    async def body(engine, supervised):
        await supervised.start()
        delays = [await goes_down(engine, supervised, caplog) for _ in range(3)]
        await asyncio.sleep(0.15)
        delays += [await goes_down(engine, supervised, caplog) for _ in range(2)]
        await supervised.stop()
        return delays

    delays = (0.0, 0.001, 0.002)
    assert run(body, delays_s=delays, stable_s=0.1) == [0.0, 0.001, 0.002, 0.0, 0.001]


@pytest.mark.parametrize(
    "failures",
    [
        pytest.param([None] * 9, id="it starts each time and goes down again"),
        pytest.param([None, *[RuntimeError("no")] * 9], id="it does not start"),
        pytest.param([None, RuntimeError("no"), None, RuntimeError("no"), None], id="both"),
    ],
)
@pytest.mark.parametrize("delays_s", [(0.0,), (0.0, 0.03)])
def test_after_so_many_failures_in_a_row_it_gives_up(failures, delays_s):
    """Also if restarting takes longer than an engine must be ready to be stable."""

    async def body(engine, supervised):
        await supervised.start()
        for _ in range(2000):
            if supervised.error is not None:
                break
            if engine.state == "ready":
                engine.state = "down"
            await asyncio.sleep(0.001)
        calls = list(engine.calls)
        await asyncio.sleep(0.02)
        assert engine.calls == calls
        await supervised.stop()
        return supervised.error, calls.count("start")

    error, starts = run(body, *failures, delays_s=delays_s, stable_s=0.02, max_failures=4)
    assert isinstance(error, EngineDownError)
    assert str(error) == "giving up on the fragile engine: it failed 4 times in a row"
    assert starts == 4


def test_what_no_restart_can_mend_is_not_restarted():
    async def body(engine, supervised):
        await supervised.start()
        engine.lost, engine.state = "cuda:0 no longer works", "down"
        await until(lambda: supervised.error is not None)
        await asyncio.sleep(0.01)
        assert supervised.lost == engine.lost
        return str(supervised.error), engine.calls

    assert run(body) == (
        "giving up on the fragile engine: cuda:0 no longer works",
        ["start"],
    )


def test_a_supervision_that_fails_is_told():
    class Broken(Fragile):
        @property
        def state(self):
            if self.calls:
                raise RuntimeError("a mistake")
            return "starting"

        @state.setter
        def state(self, _):
            pass

    async def body():
        supervised = Supervised(Broken(), check_s=0.001)
        await supervised.start()
        await until(lambda: supervised.error is not None)
        return supervised.error

    assert str(asyncio.run(body())) == "a mistake"
