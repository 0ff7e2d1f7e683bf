"""Answers: what the engine writes for one request, as text, all its answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Self

from layerbridge.serving.engine import Engine, EngineDown
from layerbridge.serving.metrics import Metrics
from layerbridge.serving.requests import Ask, Begun, Finished, FinishReason, Token
from layerbridge.serving.transcript import Transcript


@dataclass(frozen=True)
class Segment:
    """A token, and where its text begins in the answer."""

    token: Token
    offset: int


@dataclass(frozen=True)
class Delta:
    """What one answer grew by.

    Attributes:
        index: which answer.
        text: that is certain now.
        pieces: the tokens that wrote it.
        finish_reason: None while it grows.
        begins: whether it is the answer's first; it has no text yet.
    """

    index: int
    text: str = ""
    pieces: tuple[Segment, ...] = ()
    finish_reason: FinishReason | None = None
    begins: bool = False


@dataclass(frozen=True)
class Answer:
    """One answer, when it is over."""

    text: str
    pieces: tuple[Segment, ...]
    finish_reason: FinishReason


class Answers:
    """Generations for one request, read as one stream of deltas.

    ``async with`` begins them, and ends what is left of them at its end. Each asks the engine from
    a task of its own, so they share the engine's batches.

    Args:
        engine: who writes.
        asks: what is asked of it.
        transcripts: one for each.
        metrics: where tokens and times are counted.
        arrived: when the request came, on ``time.perf_counter``'s clock.
    """

    def __init__(
        self,
        engine: Engine,
        asks: Sequence[Ask],
        transcripts: Sequence[Transcript],
        metrics: Metrics,
        arrived: float,
    ) -> None:
        self._engine = engine
        self._asks = asks
        self._transcripts = transcripts
        self._metrics = metrics
        self._arrived = arrived
        self._queue: asyncio.Queue[Delta | Exception] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._left = len(asks)
        self.prompt_tokens = [0] * len(asks)
        self.completion_tokens = 0

    async def __aenter__(self) -> Self:
        pairs = zip(self._asks, self._transcripts, strict=True)
        self._tasks = [
            asyncio.create_task(self._write(index, *pair)) for index, pair in enumerate(pairs)
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        if not self._left:
            raise StopAsyncIteration
        item = await self._queue.get()
        if isinstance(item, Exception):
            raise item
        self._left -= item.finish_reason is not None
        return item

    async def whole(self) -> list[Answer]:
        """All answers, when all are over."""
        texts = [""] * len(self._asks)
        pieces: list[list[Segment]] = [[] for _ in self._asks]
        reasons: list[FinishReason] = ["stop"] * len(self._asks)
        async for delta in self:
            texts[delta.index] += delta.text
            pieces[delta.index] += delta.pieces
            reasons[delta.index] = delta.finish_reason or "stop"
        return [
            Answer(text, tuple(own), reason)
            for text, own, reason in zip(texts, pieces, reasons, strict=True)
        ]

    async def _write(self, index: int, ask: Ask, transcript: Transcript) -> None:
        try:
            await self._follow(index, ask, transcript)
        except Exception as error:
            self._queue.put_nowait(error)
        except asyncio.CancelledError:
            # By the engine perhaps, and then somebody still waits for an answer.
            self._queue.put_nowait(EngineDown("the engine gave an answer up"))
            raise

    async def _follow(self, index: int, ask: Ask, transcript: Transcript) -> None:
        pieces: list[Segment] = []
        pace = _Pace(self._metrics, self._arrived)
        reason: FinishReason | None = None
        text = ""
        events = self._engine.generate(ask)
        try:
            async for event in events:
                match event:
                    case Begun():
                        self.prompt_tokens[index] = event.prompt_tokens
                        self._metrics.prompt_tokens.inc(event.prompt_tokens)
                        self._queue.put_nowait(Delta(index, begins=True))
                    case Token():
                        pace.token()
                        self.completion_tokens += 1
                        pieces.append(Segment(event, transcript.decoded))
                        text = transcript.push(event.id)
                        if transcript.stopped:
                            reason = "stop"
                            break
                        if text:
                            released = _released(pieces, transcript.given)
                            self._queue.put_nowait(Delta(index, text, released))
                            text = ""
                    case Finished():
                        reason = event.reason
        finally:
            pace.end()
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()
        if reason is None:
            raise EngineDown("the engine gave an answer up")
        text += transcript.finish()
        # What is left wrote nothing, or what has been cut off.
        rest = _released(pieces, transcript.given) if transcript.stopped else tuple(pieces)
        # The last text may hold a stop string of its own.
        reason = "stop" if transcript.stopped else reason
        self._queue.put_nowait(Delta(index, text, rest, reason))


class _Pace:
    """How fast an answer's tokens come."""

    def __init__(self, metrics: Metrics, arrived: float) -> None:
        self._metrics = metrics
        self._arrived = arrived
        self._first = self._last = 0.0
        self._count = 0

    def token(self) -> None:
        """One came."""
        self._last = perf_counter()
        if not self._count:
            self._first = self._last
            self._metrics.first_token_seconds.observe(self._first - self._arrived)
        self._count += 1
        self._metrics.generated_tokens.inc()

    def end(self) -> None:
        """No more will."""
        if self._count > 1:
            self._metrics.token_seconds.observe((self._last - self._first) / (self._count - 1))


def _released(pieces: list[Segment], given: int) -> tuple[Segment, ...]:
    """Takes the tokens out whose text has been given, were it in part."""
    count = sum(piece.offset < given for piece in pieces)
    released = tuple(pieces[:count])
    del pieces[:count]
    return released
