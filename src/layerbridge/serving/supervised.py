"""Supervision: restarts an engine that goes down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from layerbridge.models.inference import Classification, LayerWeights
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.engine import Engine, Load, State
from layerbridge.serving.requests import Event, Prompt, Question

LOG = logging.getLogger(__name__)

CHECK_S = 0.25
# Before each restart in a row; the last delay is used for all further ones.
DELAYS_S = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)


class Supervised:
    """An engine, not started yet, that is restarted when it goes down.

    It is checked at intervals of ``check_s``; ``delays_s`` are those before restarts in a row.
    """

    def __init__(
        self, engine: Engine, *, check_s: float = CHECK_S, delays_s: Sequence[float] = DELAYS_S
    ) -> None:
        self.engine = engine
        self.name = engine.name
        self.restarts = 0
        self.error: BaseException | None = None  # why the first start failed; it is not retried
        self._check_s = check_s
        self._delays_s = tuple(delays_s)
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
        attempts = 0
        while True:
            await asyncio.sleep(self._check_s)
            if self.engine.state != "down":
                attempts = 0
                continue
            delay = self._delays_s[min(attempts, len(self._delays_s) - 1)]
            LOG.warning("the %s engine is down; restarting in %g s", self.name, delay)
            await asyncio.sleep(delay)
            attempts += 1
            self.restarts += 1
            try:
                # Frees what is left of it: processes and their memory.
                await self.engine.stop()
                await self.engine.start()
            except Exception:
                LOG.exception("the %s engine could not be restarted", self.name)
            else:
                LOG.warning("the %s engine is running again", self.name)
