"""Supervised: an engine that is started again when it goes down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from layerbridge.models.inference import Classification, LayerWeights
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.engine import Engine, Load, State
from layerbridge.serving.requests import Ask, Event, Question

LOG = logging.getLogger(__name__)

CHECK_S = 0.25
# Before each attempt to start again; the last one is for all that follow.
PAUSES_S = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)


class Supervised:
    """The engine, looked after.

    Args:
        engine: that has not been started.
        check_s: how often it is looked at.
        pauses_s: how long to wait before each attempt in a row.

    Attributes:
        restarts: how often it was started again.
        error: why the first start failed, if it did; then nobody tries again.
    """

    def __init__(
        self, engine: Engine, *, check_s: float = CHECK_S, pauses_s: Sequence[float] = PAUSES_S
    ) -> None:
        self.engine = engine
        self.name = engine.name
        self.restarts = 0
        self.error: BaseException | None = None
        self._check_s = check_s
        self._pauses_s = tuple(pauses_s)
        self._watch: asyncio.Task[None] | None = None

    @property
    def bridges(self) -> Bridges:
        """What it serves."""
        return self.engine.bridges

    @property
    def state(self) -> State:
        """Whether it answers."""
        return self.engine.state

    @property
    def load(self) -> Load:
        """How much it has to do."""
        return self.engine.load

    async def start(self) -> None:
        """As the engine's; from then on it is looked after."""
        try:
            await self.engine.start()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.error = error
            raise
        self._watch = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """As the engine's, for good."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        await self.engine.stop()

    def generate(self, ask: Ask) -> AsyncIterator[Event]:
        """As the engine's."""
        return self.engine.generate(ask)

    async def classify(self, question: Question) -> Classification:
        """As the engine's."""
        return await self.engine.classify(question)

    async def layer_weights(self, bridge: str, text: str) -> LayerWeights:
        """As the engine's."""
        return await self.engine.layer_weights(bridge, text)

    async def _keep(self) -> None:
        attempts = 0
        while True:
            await asyncio.sleep(self._check_s)
            if self.engine.state != "down":
                attempts = 0
                continue
            pause = self._pauses_s[min(attempts, len(self._pauses_s) - 1)]
            LOG.warning("the %s engine is down; starting it again in %g s", self.name, pause)
            await asyncio.sleep(pause)
            attempts += 1
            self.restarts += 1
            try:
                # What is left of it goes first: processes, and the memory they hold.
                await self.engine.stop()
                await self.engine.start()
            except Exception:
                LOG.exception("the %s engine did not start", self.name)
            else:
                LOG.warning("the %s engine is running again", self.name)
