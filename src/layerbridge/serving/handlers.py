"""Replying: one request for generation → one reply, or a stream of events.

The two routes differ in how they write what is generated, which is their ``Form``; when a request
waits, is refused, takes too long or is left by its client is the same for both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from layerbridge.serving.connection import ClientGoneError, EventStream, while_connected
from layerbridge.serving.errors import as_http, took_too_long
from layerbridge.serving.limits import in_time
from layerbridge.serving.requests import Ask, Sampling
from layerbridge.serving.responses import Usage
from layerbridge.serving.schema import GenerationRequest
from layerbridge.serving.service import Service
from layerbridge.serving.streaming import Answer, Answers, Delta
from layerbridge.serving.transcript import Transcript

_INT64 = 2**63
# How long a stream's last event may take to be sent.
_LAST_WORDS_S = 5.0


class Form(Protocol):
    """How a route writes what is generated."""

    def whole(self, answers: Sequence[Answer], usage: Usage) -> BaseModel:
        """All of it at once."""
        ...

    def chunks(self, delta: Delta) -> Sequence[BaseModel]:
        """What one answer grew by; it may be nothing worth sending."""
        ...

    def last(self, usage: Usage) -> BaseModel:
        """The usage at the end of a stream."""
        ...


@dataclass(frozen=True)
class Job:
    """A request for generation, as it has been read.

    Attributes:
        asked: the request.
        texts: what the encoder reads; each is answered n times.
        instruction: for the language model.
        max_tokens: of each answer.
        logprobs: as in ``Sampling``.
        strip: whether answers begin with a visible character.
    """

    asked: GenerationRequest
    texts: Sequence[str]
    instruction: str | None
    max_tokens: int
    logprobs: int | None
    strip: bool

    def asks(self) -> list[Ask]:
        """One for each answer: all of the first text, then all of the next."""
        return [
            Ask(self.asked.model, text, self.instruction, self._sampling(place))
            for text in self.texts
            for place in range(self.asked.n)
        ]

    def _sampling(self, place: int) -> Sampling:
        asked = self.asked
        # The nucleus of nothing is the most likely token, and engines refuse an empty one.
        greedy = asked.top_p == 0
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=0.0 if greedy else asked.temperature,
            top_p=1.0 if greedy else asked.top_p,
            seed=None if asked.seed is None else (asked.seed + place) % _INT64,
            logprobs=self.logprobs,
            ignore_eos=asked.ignore_eos,
        )


async def reply(request: Request, service: Service, job: Job, form: Form) -> Response:
    """The reply to a request for generation.

    Raises:
        HttpError: it is refused, or took too long.
        EngineDown: the engine cannot answer.
        LayerBridgeError: the engine refuses it.
    """
    generation = _Generation(service, job, form)
    work = generation.stream() if job.asked.stream else generation.whole()
    return await while_client_waits(request, work)


async def while_client_waits(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """The work's reply; if the client leaves it is cancelled, and the reply is for nobody."""
    try:
        return await while_connected(request.receive, work)
    except ClientGoneError:
        return Response(status_code=499)


class _Generation:
    def __init__(self, service: Service, job: Job, form: Form) -> None:
        self._service = service
        self._job = job
        self._form = form
        self._timeout_s = service.limits.timeout_s
        self._deadline = asyncio.get_running_loop().time() + self._timeout_s
        asks = job.asks()
        transcripts = [
            Transcript(service.vocabulary, job.asked.stops, strip=job.strip) for _ in asks
        ]
        self._weight = len(asks)
        self._answers = Answers(
            service.engine, asks, transcripts, service.metrics, arrived=perf_counter()
        )

    async def whole(self) -> Response:
        async with in_time(self._timeout_s), AsyncExitStack() as place:
            await self._enter(place)
            answers = await self._answers.whole()
        return JSONResponse(self._form.whole(answers, self._usage()).model_dump())

    async def stream(self) -> Response:
        # Until the engine has begun, a refusal can still be a status.
        async with in_time(self._timeout_s), AsyncExitStack() as place:
            await self._enter(place)
            first = await anext(self._answers)
            kept = place.pop_all()
        left = self._deadline - asyncio.get_running_loop().time()
        return EventStream(self._events(first), kept.aclose, left + _LAST_WORDS_S)

    async def _enter(self, place: AsyncExitStack) -> None:
        await place.enter_async_context(self._service.gate.admit(self._weight))
        await place.enter_async_context(self._answers)

    async def _events(self, first: Delta) -> AsyncIterator[bytes]:
        try:
            async for delta in self._deltas(first):
                for chunk in self._form.chunks(delta):
                    yield self._event(chunk)
            if self._job.asked.include_usage:
                yield self._event(self._form.last(self._usage()))
            yield b"data: [DONE]\n\n"
        except Exception as error:
            told = as_http(error)
            self._service.metrics.errors.labels(told.code).inc()
            yield self._event(told.body)

    async def _deltas(self, first: Delta) -> AsyncIterator[Delta]:
        yield first
        while True:
            try:
                async with asyncio.timeout_at(self._deadline) as timeout:
                    delta = await anext(self._answers)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if timeout.expired():
                    raise took_too_long(self._timeout_s) from None
                raise
            yield delta

    def _event(self, chunk: BaseModel) -> bytes:
        # OpenAI's chunks have usage, null in all but the last, only where it was asked for.
        left_out = None if self._job.asked.include_usage else {"usage"}
        return f"data: {chunk.model_dump_json(exclude=left_out)}\n\n".encode()

    def _usage(self) -> Usage:
        answers = self._answers
        prompt = sum(answers.prompt_tokens[:: self._job.asked.n])
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=answers.completion_tokens,
            total_tokens=prompt + answers.completion_tokens,
        )
