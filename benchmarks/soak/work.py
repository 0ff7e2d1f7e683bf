"""The server under load, when its engine dies, and when it gets SIGTERM."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from client import Client
from expected import Expected
from memory import RESTS, children, engine_of, flatness, memory_of, resident
from tally import Tally, WrongError

from layerbridge.benchmarking.serve_client import Connection, Reply
from layerbridge.benchmarking.serve_process import Server
from layerbridge.progress import meter, say

DRAIN_S = 120
RESTART_S = 300
REST_S = 3.0


class Soak:
    """A server, and the load on it.

    Args:
        server: running.
        model: its bridge.
        expected: questions and the library's answers.
    """

    def __init__(self, server: Server, model: str, expected: Sequence[Expected]) -> None:
        self.server = server
        self.url = server.url
        self.model = model
        self.expected = list(expected)
        self.longest = sorted(expected, key=lambda one: len(one.text))[-4:]
        self.tally = Tally()
        self.in_flight = 0
        self.signalled: float | None = None
        self.is_over = False
        self.may_ask = asyncio.Event()
        self.may_ask.set()

    async def load(self, seconds: float, concurrency: int) -> dict[str, Any]:
        """Loads the server for so many seconds, pauses not counted; returns the use of memory."""
        pid = self.server.process.pid
        sizes: list[tuple[float, dict[str, int]]] = []
        at_rest: list[dict[str, int]] = []
        due = [part * seconds for part in RESTS]
        clients = [asyncio.create_task(Client(self, n).run()) for n in range(concurrency)]
        started = time.monotonic()
        pause = min(1.0, seconds / 100)
        with meter("soak") as bar:
            while (passed := time.monotonic() - started) < seconds:
                if due and passed >= due[0]:
                    due.pop(0)
                    before = time.monotonic()
                    at_rest.append(await self._rest())
                    started += time.monotonic() - before
                    continue
                await asyncio.sleep(pause)
                sizes.append((passed, memory_of(pid)))
                note = f"{sum(self.tally.kinds.values())} replies · {len(self.tally.failures)} bad"
                bar.update(int(passed), math.ceil(seconds), note)
                if self.server.process.returncode is not None:
                    self.tally.fail("server_errors", f"the server exited: {self.server.errors()}")
                    break
        self.is_over = True
        await asyncio.gather(*clients)
        self.is_over = False
        at_rest.append(await self._rest())
        return flatness(at_rest, sizes)

    async def _rest(self) -> dict[str, int]:
        """Pauses until the server is idle, and returns its memory then."""
        self.may_ask.clear()
        while self.in_flight:
            await asyncio.sleep(0.1)
        await asyncio.sleep(REST_S)
        found = memory_of(self.server.process.pid)
        self.may_ask.set()
        return found

    async def crash(self) -> dict[str, Any]:
        """Kills the engine's process and waits for the server to answer again."""
        victim = engine_of(self.server.process.pid)
        helpers = children(victim)
        say("killing the engine's process …")
        body = {"model": self.model, "prompt": "a", "max_tokens": 500, "ignore_eos": True}

        async def ask(**settings: Any) -> Reply | OSError:
            async with Connection(self.url) as connection:
                try:
                    return await connection.post("/v1/completions", {**body, **settings})
                except OSError as error:
                    return error

        running = [asyncio.create_task(ask(stream=bool(place % 2))) for place in range(8)]
        await asyncio.sleep(0.3)
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        ended = await asyncio.gather(*running)
        refused: list[Reply] = []
        statuses: Counter[str] = Counter()
        while time.monotonic() - killed < RESTART_S:
            reply = await ask(max_tokens=2)
            if isinstance(reply, OSError):
                statuses[type(reply).__name__] += 1
            else:
                statuses[str(reply.status)] += 1
                if reply.status == 200:
                    break
                refused.append(reply)
            await asyncio.sleep(0.2)
        seconds = time.monotonic() - killed
        client = Client(self, -1)
        for _ in range(20):
            try:
                await client.streamed()
            except (WrongError, OSError) as error:
                self.tally.fail("wrong", f"after the crash: {error}")
        client.connection.close()
        return {
            "running": [_ended(reply) for reply in ended],
            "statuses": dict(statuses),
            "retry_after": all("retry-after" in r.headers for r in refused) and bool(refused),
            "answers_again": statuses["200"] == 1,
            "seconds_to_answer": seconds,
            "left_over": sum(resident(helper) > 0 for helper in helpers),
        }

    async def drain(self, concurrency: int, after_s: float) -> dict[str, Any]:
        """Sends SIGTERM under full load."""
        clients = [asyncio.create_task(Client(self, 1000 + n).run()) for n in range(concurrency)]
        await asyncio.sleep(after_s)
        answered, running = sum(self.tally.kinds.values()), self.in_flight
        lost = self.tally.counts["lost"]
        say("SIGTERM …")
        self.signalled = time.monotonic()
        self.server.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(DRAIN_S + 60):
                code: int | None = await self.server.process.wait()
        except TimeoutError:
            code = None
        seconds = time.monotonic() - self.signalled
        self.is_over = True
        await asyncio.gather(*clients)
        return {
            "running": running,
            "answered_after": sum(self.tally.kinds.values()) - answered,
            "told_503": self.tally.counts["draining_503"],
            "turned_away": self.tally.counts["turned_away"],
            "lost": self.tally.counts["lost"] - lost,
            "exit_code": code,
            "seconds": seconds,
        }


def _ended(reply: Reply | OSError) -> str:
    if isinstance(reply, OSError):
        return type(reply).__name__
    if reply.events and not reply.is_whole:
        return "error in the stream" if "error" in reply.chunks()[-1][1] else "cut off"
    return str(reply.status)
