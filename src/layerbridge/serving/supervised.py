"""Supervision: restarts an engine that goes down, and gives up if that does not help."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from layerbridge.models.inference import Classification, LayerWeights
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.engine import Engine, EngineDownError, Load, State
from layerbridge.serving.requests import Event, Prompt, Question

LOG = logging.getLogger(__name__)

CHECK_S = 0.25
# Before each restart in a row; the last delay is used for all further ones.
DELAYS_S = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)
# After how long without a failure the count starts again.
STABLE_S = 60.0
# Failures in a row after which there is no further restart.
MAX_FAILURES = 8


class Supervised:
    """An engine, not started yet, that is restarted when it goes down.

    After too many failures in a row, or one that no restart in this process can mend, ``error``
    says why there are no more; the process should then end, so that another one can be started.

    Args:
        engine: not started yet.
        check_s: how often it is checked.
        delays_s: before restarts in a row.
        stable_s: how long it must have been ready for the next failure to be the first again.
        max_failures: in a row.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        check_s: float = CHECK_S,
        delays_s: Sequence[float] = DELAYS_S,
        stable_s: float = STABLE_S,
        max_failures: int = MAX_FAILURES,
    ) -> None:
        self.engine = engine
        self.name = engine.name
        self.restarts = 0
        self.error: BaseException | None = None  # of the first start, or why there are no more
        self._check_s = check_s
        self._delays_s = tuple(delays_s)
        self._stable_s = stable_s
        self._max_failures = max_failures
        self._task: asyncio.Task[None] | None = None

    @property
    def bridges(self) -> Bridges:
        """The engine's bridges."""
        return self.engine.bridges

    @property
    def state(self) -> State:
        """The engine's state."""
        return self.engine.state

    @property
    def lost(self) -> str | None:
        """Why the engine cannot be started again in this process; None if it can."""
        return self.engine.lost

    @property
    def load(self) -> Load:
        """The engine's load."""
        return self.engine.load

    async def start(self) -> None:
        """Starts the engine and its supervision."""
        try:
            await self.engine.start()
        except Exception as error:
            self.error = error
            raise
        self._task = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Stops the engine for good."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self.engine.stop()

    def generate(self, prompt: Prompt) -> AsyncIterator[Event]:
        """Calls ``Engine.generate``."""
        return self.engine.generate(prompt)

    async def classify(self, question: Question) -> Classification:
        """Calls ``Engine.classify``."""
        return await self.engine.classify(question)

    async def layer_weights(self, bridge: str, text: str) -> LayerWeights:
        """Calls ``Engine.layer_weights``."""
        return await self.engine.layer_weights(bridge, text)

    async def _supervise(self) -> None:
        try:
            await self._restart_for_ever()
        except Exception as error:  # without supervision a dead engine would stay dead
            LOG.exception("the %s engine is not supervised any more", self.name)
            self.error = error

    async def _restart_for_ever(self) -> None:
        clock = asyncio.get_running_loop().time
        failures = 0
        ready_since: float | None = clock()
        while True:
            await asyncio.sleep(self._check_s)
            if self.engine.state != "down":
                continue
            was_stable = ready_since is not None and clock() - ready_since >= self._stable_s
            failures, ready_since = 1 if was_stable else failures + 1, None
            reason = self.engine.lost
            if reason is None and failures >= self._max_failures:
                reason = f"it failed {failures} times in a row"
            if reason is not None:
                self.error = EngineDownError(f"giving up on the {self.name} engine: {reason}")
                LOG.error("%s", self.error)
                return
            delay = self._delays_s[min(failures, len(self._delays_s)) - 1]
            LOG.warning("the %s engine is down; restarting in %g s", self.name, delay)
            await asyncio.sleep(delay)
            self.restarts += 1
            try:
                # Frees what is left of it: processes and their memory.
                await self.engine.stop()
                await self.engine.start()
            except Exception:
                LOG.exception("the %s engine could not be restarted", self.name)
            else:
                ready_since = clock()
                LOG.warning("the %s engine is running again", self.name)
