"""Handlers: one request → one response or event stream, within the server's limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from layerbridge.serving.connection import EventStream, run_while_connected
from layerbridge.serving.detokenizer import Detokenizer
from layerbridge.serving.errors import to_api_error
from layerbridge.serving.formats import Format
from layerbridge.serving.limits import time_limit
from layerbridge.serving.requests import Prompt, Sampling
from layerbridge.serving.responses import Usage
from layerbridge.serving.schema import GenerationRequest
from layerbridge.serving.service import Service
from layerbridge.serving.streaming import CompletionStream, Delta

T = TypeVar("T")

_INT64 = 2**63
# Time to send a stream's last event after the deadline.
_LAST_EVENT_S = 5.0


@dataclass(frozen=True)
class Job:
    """A checked request for completions."""

    request: GenerationRequest
    texts: Sequence[str]  # each gets n completions
    instruction: str | None
    max_tokens: int  # of each completion
    logprobs: int | None  # as in Sampling
    strip: bool  # remove white space at the beginning of completions
    options: tuple[str, ...] | None = None  # each completion is one of these; None for free text
    weight: int = 1  # of each completion, in answers

    def prompts(self) -> list[Prompt]:
        """Returns one prompt per completion: all of the first text, then all of the next."""
        return [
            Prompt(
                self.request.model,
                text,
                self.instruction,
                self._sampling(index),
                self.options,
                self.request.language,
            )
            for text in self.texts
            for index in range(self.request.n)
        ]

    def _sampling(self, index: int) -> Sampling:
        request = self.request
        # Top-p 0 leaves only the most likely token; engines refuse the value.
        greedy = request.top_p == 0
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=0.0 if greedy else request.temperature,
            top_p=1.0 if greedy else request.top_p,
            seed=None if request.seed is None else (request.seed + index) % _INT64,
            logprobs=self.logprobs,
            ignore_eos=request.ignore_eos,
        )


async def run_limited(
    request: Request, service: Service, call: Callable[[], Awaitable[T]], weight: int = 1
) -> T:
    """Awaits a call of the engine when there are slots, until the timeout or a disconnect."""

    async def run() -> T:
        async with time_limit(service.limits.timeout_s), service.gate.admit(weight):
            return await call()

    return await run_while_connected(request.receive, run())


async def together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Awaits calls at the same time; the first that fails cancels the others."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def respond(
    request: Request, service: Service, job: Job, format_type: type[Format]
) -> Response:
    """Generates completions and returns them whole or as a stream.

    Raises:
        ApiError: it timed out, or the queue is full.
        ClientDisconnect: the client disconnected.
        EngineDownError, LayerBridgeError: of the engine.
    """
    generation = _Generation(service, job, format_type)
    work = generation.stream() if job.request.stream else generation.response()
    return await run_while_connected(request.receive, work)


class _Generation:
    def __init__(self, service: Service, job: Job, format_type: type[Format]) -> None:
        self._service = service
        self._job = job
        self._format = format_type(
            job.request.model, service.vocabulary, logprobs=job.logprobs is not None
        )
        self._timeout_s = service.limits.timeout_s
        self._deadline = asyncio.get_running_loop().time() + self._timeout_s
        prompts = job.prompts()
        detokenizers = [
            Detokenizer(service.vocabulary, job.request.stops, strip=job.strip) for _ in prompts
        ]
        self._count = len(prompts) * job.weight
        # Free text is written as OpenAI does, without fields of our own.
        self._unwritten: dict[str, Any] = {}
        if job.options is None:
            self._unwritten["choices"] = {"__all__": {"layerbridge"}}
        self._stream = CompletionStream(
            service.engine, prompts, detokenizers, service.metrics, arrived=perf_counter()
        )

    async def response(self) -> Response:
        async with time_limit(self._timeout_s, self._deadline), AsyncExitStack() as stack:
            await self._enter(stack)
            completions = await self._stream.completions()
        reply = self._format.response(completions, self._usage())
        return JSONResponse(reply.model_dump(exclude=self._unwritten))

    async def stream(self) -> Response:
        # Until the engine has started, an error can still be a status.
        async with time_limit(self._timeout_s, self._deadline), AsyncExitStack() as stack:
            await self._enter(stack)
            first = await anext(self._stream)
            kept = stack.pop_all()
        left = self._deadline - asyncio.get_running_loop().time()
        return EventStream(self._events(first), kept.aclose, left + _LAST_EVENT_S)

    async def _enter(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self._service.gate.admit(self._count))
        await stack.enter_async_context(self._stream)

    async def _events(self, first: Delta) -> AsyncIterator[bytes]:
        try:
            async for delta in self._deltas(first):
                for chunk in self._format.chunks(delta):
                    yield self._event(chunk)
            if self._job.request.include_usage:
                yield self._event(self._format.usage_chunk(self._usage()))
            yield b"data: [DONE]\n\n"
        except Exception as error:
            api_error = to_api_error(error)
            self._service.metrics.errors.labels(api_error.code).inc()
            yield self._event(api_error.body)

    async def _deltas(self, first: Delta) -> AsyncIterator[Delta]:
        yield first
        while True:
            async with time_limit(self._timeout_s, self._deadline):
                delta = await anext(self._stream, None)
            if delta is None:
                return
            yield delta

    def _event(self, chunk: BaseModel) -> bytes:
        # OpenAI's chunks have usage only on request, null in all but the last.
        exclude = self._unwritten | ({} if self._job.request.include_usage else {"usage": True})
        return f"data: {chunk.model_dump_json(exclude=exclude)}\n\n".encode()

    def _usage(self) -> Usage:
        prompt = sum(self._stream.prompt_tokens[:: self._job.request.n])
        completion = self._stream.completion_tokens
        total = prompt + completion
        return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=total)
