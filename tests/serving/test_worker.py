import asyncio
import threading

import pytest

from layerbridge.serving.engine import THREAD, EngineDownError
from layerbridge.serving.worker import Worker


@pytest.fixture
def worker():
    worker = Worker("test")
    yield worker
    worker.stop()


def test_calls_run_in_order_in_one_thread(worker):
    seen = []

    def call(number):
        seen.append((number, threading.current_thread().name))
        if number == 2:
            raise KeyError(number)
        return -number

    async def body():
        calls = (worker.run(call, number) for number in range(4))
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, error, last = asyncio.run(body())
    assert (first, second, last) == (0, -1, -3)
    assert isinstance(error, KeyError)
    assert seen == [(number, f"{THREAD} test") for number in range(4)]


def test_nobody_waits_for_a_call_that_hangs(worker):
    started, released, seen = threading.Event(), threading.Event(), []

    def hang():
        started.set()
        released.wait(20)

    async def body():
        hanging = asyncio.create_task(worker.run(hang))
        await asyncio.to_thread(started.wait, 20)
        waiting = asyncio.create_task(worker.run(seen.append, 1))
        await asyncio.sleep(0)
        for task in (hanging, waiting):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(body())
    assert worker._thread.daemon
    released.set()

    async def next_one():
        return await worker.run(lambda: "alive")  # though the other loop is closed

    assert asyncio.run(next_one()) == "alive"
    assert seen == []  # whose caller has gone before its turn is not run


def test_after_its_end_it_says_so(worker):
    worker.stop()
    worker._thread.join(5)
    assert not worker.is_alive
    with pytest.raises(EngineDownError, match="has ended"):
        asyncio.run(worker.run(int))
