"""Streaming: the completions of one request, generated together and read as one stream of text."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple, Self

from layerbridge.models.inference import Classification
from layerbridge.serving.detokenizer import Detokenizer
from layerbridge.serving.engine import Engine, EngineDownError
from layerbridge.serving.metrics import Metrics
from layerbridge.serving.requests import Finished, FinishReason, Prompt, Started, Token


class OffsetToken(NamedTuple):
    """A token, and where its text begins in the completion."""

    token: Token
    offset: int


@dataclass(frozen=True)
class Delta:
    """What is new in one completion."""

    index: int  # which completion
    text: str = ""
    tokens: tuple[OffsetToken, ...] = ()  # of the new text
    finish_reason: FinishReason | None = None  # None until the completion ends
    is_start: bool = False  # whether it is the first, which has no text yet
    classification: Classification | None = None  # with the finish reason, if it is an option


@dataclass(frozen=True)
class Completion:
    """A finished completion."""

    text: str
    tokens: tuple[OffsetToken, ...]
    finish_reason: FinishReason
    classification: Classification | None = None  # if it is one of the options


class CompletionStream:
    """The completions of one request, one per prompt, as an async iterator of deltas.

    ``async with`` starts them and aborts those that have not ended. Each reads the engine in its
    own task, so that they share the engine's batches. The request ``arrived`` at this value of
    ``time.perf_counter``.
    """

    def __init__(
        self,
        engine: Engine,
        prompts: Sequence[Prompt],
        detokenizers: Sequence[Detokenizer],
        metrics: Metrics,
        arrived: float,
    ) -> None:
        self._engine = engine
        self._prompts = prompts
        self._detokenizers = detokenizers
        self._metrics = metrics
        self._arrived = arrived
        self._queue: asyncio.Queue[Delta | Exception] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._unfinished = len(prompts)
        self.prompt_tokens = [0] * len(prompts)
        self.completion_tokens = 0

    async def __aenter__(self) -> Self:
        pairs = zip(self._prompts, self._detokenizers, strict=True)
        self._tasks = [
            asyncio.create_task(self._run(index, *pair)) for index, pair in enumerate(pairs)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        if not self._unfinished:
            raise StopAsyncIteration
        item = await self._queue.get()
        if isinstance(item, Exception):
            raise item
        self._unfinished -= item.finish_reason is not None
        return item

    async def completions(self) -> list[Completion]:
        """Waits for all completions."""
        deltas: list[list[Delta]] = [[] for _ in self._prompts]
        async for delta in self:
            deltas[delta.index].append(delta)
        return [
            Completion(
                "".join(delta.text for delta in own),
                tuple(token for delta in own for token in delta.tokens),
                own[-1].finish_reason or "stop",
                own[-1].classification,
            )
            for own in deltas
        ]

    async def _run(self, index: int, prompt: Prompt, detokenizer: Detokenizer) -> None:
        try:
            await self._generate(index, prompt, detokenizer)
        except Exception as error:
            self._queue.put_nowait(error)
        except asyncio.CancelledError:
            # The engine may have cancelled it, and then somebody still waits for an answer.
            self._queue.put_nowait(EngineDownError("generation aborted"))
            raise

    async def _generate(self, index: int, prompt: Prompt, detokenizer: Detokenizer) -> None:
        tokens: list[OffsetToken] = []
        times: list[float] = []
        reason: FinishReason | None = None
        text = ""
        classification: Classification | None = None
        events = self._engine.generate(prompt)
        try:
            async for event in events:
                match event:
                    case Started():
                        self.prompt_tokens[index] = event.prompt_tokens
                        classification = event.classification
                        self._metrics.prompt_tokens.inc(event.prompt_tokens)
                        self._queue.put_nowait(Delta(index, is_start=True))
                    case Token():
                        self._count_token(times)
                        tokens.append(OffsetToken(event, detokenizer.decoded))
                        text = detokenizer.push(event.id)
                        if detokenizer.stopped:
                            reason = "stop"
                            break
                        if text:
                            emitted = _take(tokens, detokenizer.emitted)
                            self._queue.put_nowait(Delta(index, text, emitted))
                            text = ""
                    case Finished():
                        reason = event.reason
        finally:
            if len(times) > 1:
                mean = (times[-1] - times[0]) / (len(times) - 1)
                self._metrics.token_seconds.observe(mean)
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()
        if reason is None:
            raise EngineDownError("generation aborted")
        text += detokenizer.finish()
        # The last text may contain a stop string too; the tokens after it are left out.
        rest = _take(tokens, detokenizer.emitted) if detokenizer.stopped else tuple(tokens)
        reason = "stop" if detokenizer.stopped else reason
        self._queue.put_nowait(Delta(index, text, rest, reason, classification=classification))

    def _count_token(self, times: list[float]) -> None:
        times.append(perf_counter())
        if len(times) == 1:
            self._metrics.first_token_seconds.observe(times[0] - self._arrived)
        self._metrics.generated_tokens.inc()
        self.completion_tokens += 1


def _take(tokens: list[OffsetToken], emitted: int) -> tuple[OffsetToken, ...]:
    """Removes and returns the tokens whose text has been emitted, even if only in part."""
    count = sum(token.offset < emitted for token in tokens)
    taken = tuple(tokens[:count])
    del tokens[:count]
    return taken
