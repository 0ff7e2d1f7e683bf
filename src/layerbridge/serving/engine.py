"""Engine: whatever answers. The app knows engines by this alone, and each engine knows no HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from layerbridge.models.inference import Classification, LayerWeights
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.requests import Ask, Event, Question

State = Literal["starting", "ready", "down"]

# Told of every pass: what kind ("encode", "prefill", "decode", "classify"), and how many rows.
OnBatch = Callable[[str, int], None]


class EngineDown(Exception):  # noqa: N818 - it is what happened, and no fault of the caller's
    """The engine cannot answer now; what was running is lost. It may come back."""


@dataclass(frozen=True)
class Load:
    """What an engine is doing.

    Attributes:
        waiting: asked, and not begun.
        running: being answered.
    """

    waiting: int
    running: int


class Engine(Protocol):
    """What answers.

    An engine belongs to the event loop that started it. Any method may raise ``EngineDown``.
    """

    name: str

    @property
    def bridges(self) -> Bridges:
        """What it serves."""
        ...

    @property
    def state(self) -> State:
        """Whether it answers."""
        ...

    @property
    def load(self) -> Load:
        """How much it has to do."""
        ...

    async def start(self) -> None:
        """Makes it ready to answer."""
        ...

    async def stop(self) -> None:
        """Ends it; what is still running raises ``EngineDown``."""
        ...

    def generate(self, ask: Ask) -> AsyncIterator[Event]:
        """``Begun``, then each ``Token``, then ``Finished``.

        Closing the iterator, or cancelling the task that reads it, ends the work for it.

        Raises:
            DataError: the prompt alone is longer than the language model can read.
            EngineDown: it cannot answer now.
        """
        ...

    async def classify(self, question: Question) -> Classification:
        """Ranks the options, as ``LayerBridge.classify`` does.

        Raises:
            DataError: there are no options, or one is empty or there twice.
            EngineDown: it cannot answer now.
        """
        ...

    async def layer_weights(self, bridge: str, text: str) -> LayerWeights:
        """Which encoder layers each token of the text drew on, as ``LayerBridge.layer_weights``.

        Raises:
            EngineDown: it cannot answer now.
        """
        ...


class LocalEngine:
    """What engines have in common that read the bridges themselves.

    Args:
        load: reads the bridges.
        on_batch: told of every pass.
    """

    def __init__(self, load: Callable[[], Bridges], on_batch: OnBatch | None) -> None:
        self._load_bridges = load
        self._on_batch = on_batch or (lambda kind, rows: None)
        self._bridges: Bridges | None = None
        self._state: State = "starting"

    @property
    def bridges(self) -> Bridges:
        """What it serves."""
        if self._bridges is None:
            raise EngineDown("the models are still being read")
        return self._bridges

    @property
    def state(self) -> State:
        """Whether it answers."""
        return self._state


def unless_done(call: Callable[[Any], None]) -> Callable[[Any], None]:
    """A future's ``set_result`` or ``set_exception``, passed over where whoever waited gave up."""
    future = call.__self__  # type: ignore[attr-defined]

    def set_it(value: Any) -> None:
        if not future.done():
            call(value)

    return set_it
