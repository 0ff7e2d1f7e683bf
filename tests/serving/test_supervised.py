import asyncio

import pytest

from layerbridge.errors import BackboneError
from layerbridge.serving.engine import EngineDownError, Load
from layerbridge.serving.supervised import Supervised


class Fragile:
    """An engine that goes down when it is told to, and may fail to start."""

    name = "fragile"
    bridges = ()
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


def run(body, *failures, delays_s=(0.0,)):
    async def whole():
        engine = Fragile(failures)
        supervised = Supervised(engine, check_s=0.001, delays_s=delays_s)
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


def test_an_end_while_it_waits_to_try_again():
    async def body(engine, supervised):
        await supervised.start()
        engine.state = "down"
        await until(lambda: supervised.restarts == 0)
        await asyncio.sleep(0.01)
        await asyncio.wait_for(supervised.stop(), 5)
        return engine.calls

    assert run(body, delays_s=(60.0,)) == ["start", "stop"]
