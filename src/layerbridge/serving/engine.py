"""The engine interface: all that the app knows of an engine. Engines know nothing of HTTP."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from layerbridge.models.inference import Classification, LayerWeights
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.labels import Ranking, label_events
from layerbridge.serving.requests import Event, Prompt, Question

State = Literal["starting", "ready", "down"]

# How the names of the engines' threads begin. They are daemons: a process that is to end does not
# wait for a step.
THREAD = "layerbridge"

# Called with every batch: its kind ("encode", "prefill", "decode", "classify") and its rows.
OnBatch = Callable[[str, int], None]


class EngineDownError(Exception):
    """The engine is not available and running requests are lost. It may recover."""


@dataclass(frozen=True)
class Load:
    """The number of requests not yet started, and of those in progress."""

    waiting: int
    running: int


class Engine(Protocol):
    """Generates completions and classifies.

    An engine belongs to the event loop that started it. Any method may raise ``EngineDownError``.
    Other exceptions are about one request; those that are not documented are mistakes of ours.
    """

    name: str

    @property
    def bridges(self) -> Bridges:
        """The bridges it serves."""

    @property
    def state(self) -> State:
        """Whether it is starting, ready or down."""

    @property
    def lost(self) -> str | None:
        """Why it cannot be started again in this process; None if it can."""

    @property
    def load(self) -> Load:
        """The number of waiting and running requests."""

    async def start(self) -> None:
        """Loads the models."""

    async def stop(self) -> None:
        """Stops; requests that are still running raise ``EngineDownError``."""

    def generate(self, prompt: Prompt) -> AsyncIterator[Event]:
        """Yields ``Started``, each ``Token``, then ``Finished``.

        With options, the tokens are those of one of them, as ``label_events`` says.

        Closing the iterator or cancelling the task that reads it aborts the generation.

        Raises:
            LengthError: the prompt exceeds the language model's context.
            NotFiniteError: the language model's logits are not finite.
            MemoryError: the request needs more memory than there is.
            DataError: with options, as ``classify``.
        """

    async def classify(self, question: Question) -> Classification:
        """Scores the options as ``LayerBridge.classify`` does.

        Raises:
            DataError: there are no options, one is empty or a duplicate, or they are too long.
            LengthError: with the prompt they exceed the language model's context.
            NotFiniteError, MemoryError: as in ``generate``.
        """

    async def layer_weights(self, bridge: str, text: str) -> LayerWeights:
        """Computes the layer weights of each token as ``LayerBridge.layer_weights`` does.

        Raises:
            NotFiniteError, MemoryError: as in ``generate``.
        """


class LocalEngine(ABC):
    """Base of the engines, which load the bridges in this process."""

    def __init__(self, load: Callable[[], Bridges], on_batch: OnBatch | None) -> None:
        self._load_bridges = load
        self._on_batch = on_batch or (lambda kind, rows: None)
        self._bridges: Bridges | None = None
        self._state: State = "starting"
        self._lost: str | None = None

    @property
    def lost(self) -> str | None:
        """Why it cannot be started again in this process; None if it can."""
        return self._lost

    @property
    def bridges(self) -> Bridges:
        """The bridges it serves."""
        if self._bridges is None:
            raise EngineDownError("the models are still loading")
        return self._bridges

    @property
    def state(self) -> State:
        """Whether it is starting, ready or down."""
        return self._state

    def generate(self, prompt: Prompt) -> AsyncIterator[Event]:
        """Implements ``Engine.generate``."""
        return self._write(prompt) if prompt.options is None else self._choose(prompt)

    async def classify(self, question: Question) -> Classification:
        """Implements ``Engine.classify``."""
        return (await self._rank(question)).classification

    async def _choose(self, prompt: Prompt) -> AsyncIterator[Event]:
        question = Question(
            prompt.bridge,
            prompt.text,
            prompt.options,
            prompt.instruction,
            language=prompt.language,
        )
        for event in label_events(await self._rank(question), prompt.sampling):
            yield event

    @abstractmethod
    def _write(self, prompt: Prompt) -> AsyncIterator[Event]:
        """Yields the events of free text."""

    @abstractmethod
    async def _rank(self, question: Question) -> Ranking:
        """Scores the options of a question."""


def resolve(future: asyncio.Future[Any], outcome: Any) -> None:
    """Sets a future's result or exception, unless its waiter has already gone."""
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
