"""Limits on single requests and on how many run at once.

A request that breaks a limit is a 400 that names the field. A body that is too long is never read
to its end (413). Requests beyond the concurrency limit wait, and beyond the queue get a 429. The
limits on connections are those of ``Protocol``.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from layerbridge.errors import ConfigError
from layerbridge.serving.errors import ApiError, timed_out

DEFAULT_TOKENS = 64
# What weighs as much as one answer in a classification: a batch of short options, or so much text.
ANSWER_OPTIONS = 32
ANSWER_CHARS = 1024


@dataclass(frozen=True)
class Limits:
    """A server's limits. All checks raise a 400."""

    max_body_bytes: int = 1024 * 1024  # of a request
    max_text_chars: int = 20_000  # of a text, and of an instruction
    max_prompts: int = 64  # of a request to /v1/completions; texts of one to /v1/classify
    max_options: int = 256  # of a classification
    max_option_chars: int = 500  # of each option
    max_options_chars: int = 32_768  # of all options of a classification
    max_tokens: int = 1024  # of a completion
    max_n: int = 8  # completions per text
    concurrency: int = 64  # completions that run at once
    queue: int = 256  # completions that wait; further ones get a 429
    timeout_s: float = 120.0  # from a request's arrival to the end of its response
    body_timeout_s: float = 30.0  # to receive a request's body
    header_timeout_s: float = 15.0  # to receive its header
    max_connections: int = 512  # open at once

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            minimum = 0 if field.name == "queue" else 1
            if value < minimum and not (field.name.endswith("_s") and value > 0):
                allowed = "more than 0" if field.name.endswith("_s") else f"{minimum} or more"
                raise ConfigError(f"{field.name}={value}", allowed=allowed)

    def check_text(self, text: str | None, param: str) -> None:
        """Checks the length of a text."""
        if text is not None:
            _check_count(len(text), self.max_text_chars, "characters", param)

    def check_tokens(self, n: int, max_tokens: int | None, param: str = "max_tokens") -> int:
        """Checks the number of completions per text; returns the tokens each may have."""
        _check_count(n, self.max_n, "answers", "n")
        if max_tokens is None:
            return min(DEFAULT_TOKENS, self.max_tokens)
        _check_count(max_tokens, self.max_tokens, "tokens", param)
        return max_tokens

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Checks the number and length of prompts."""
        _check_count(len(prompts), self.max_prompts, "prompts", "prompt")
        for prompt in prompts:
            self.check_text(prompt, "prompt")

    def check_texts(self, texts: str | Sequence[str], param: str) -> list[str]:
        """Checks the number and lengths of texts, one or several; returns them as a list."""
        if isinstance(texts, str):
            self.check_text(texts, param)
            return [texts]
        _check_count(len(texts), self.max_prompts, "texts", param)
        for index, text in enumerate(texts):
            self.check_text(text, f"{param}[{index}]")
        return list(texts)

    def check_options(self, options: Sequence[str] | None) -> int:
        """Checks the number and lengths of options; returns how many answers they weigh."""
        options = options or ()
        _check_count(len(options), self.max_options, "options", "options")
        for index, option in enumerate(options):
            _check_count(len(option), self.max_option_chars, "characters", f"options[{index}]")
        total = sum(map(len, options))
        _check_count(total, self.max_options_chars, "characters in all", "options")
        weight = max(1, math.ceil(len(options) / ANSWER_OPTIONS), math.ceil(total / ANSWER_CHARS))
        return min(weight, self.max_answers)

    @property
    def max_answers(self) -> int:
        """The answers a single request may ask for; more could never run nor wait."""
        return max(self.concurrency, self.queue)

    def check_answers(self, count: int, param: str) -> None:
        """Checks how many answers a request asks for, over all its texts."""
        _check_count(count, self.max_answers, "answers in all", param)


def _check_count(count: int, maximum: int, unit: str, param: str) -> None:
    if count > maximum:
        message = f"{param}: {count} {unit}; allowed: at most {maximum}"
        raise ApiError(400, message, "too_many", param=param)


class Gate:
    """Admits as many completions as may run at once; others wait in order of arrival."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.running = 0
        self.waiting = 0

    @asynccontextmanager
    async def admit(self, count: int = 1) -> AsyncIterator[None]:
        """Holds a slot for each of a request's completions; raises a 429 if the queue is full.

        A request for more than ``concurrency`` completions runs alone. One for more than
        ``Limits.max_answers`` has to be refused before.
        """
        if self._queue or not self._fits(count):
            if self.waiting + count > self._limits.queue:
                headers = {"Retry-After": "1"}
                message = "the server is busy; try again"
                raise ApiError(429, message, "rate_limit_exceeded", headers=headers)
            await self._wait(count)
        else:
            self.running += count
        try:
            yield
        finally:
            self.running -= count
            self._admit_waiting()

    def _fits(self, count: int) -> bool:
        return self.running == 0 or self.running + count <= self._limits.concurrency

    async def _wait(self, count: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (count, turn)
        self._queue.append(entry)
        self.waiting += count
        try:
            await turn
        except asyncio.CancelledError:
            # It may have been admitted just before it was cancelled.
            if turn.done() and not turn.cancelled():
                self.running -= count
            else:
                self._queue.remove(entry)
                self.waiting -= count
            self._admit_waiting()
            raise

    def _admit_waiting(self) -> None:
        while self._queue and self._fits(self._queue[0][0]):
            count, turn = self._queue.popleft()
            self.waiting -= count
            self.running += count
            turn.set_result(None)


@asynccontextmanager
async def time_limit(timeout_s: float, deadline: float | None = None) -> AsyncIterator[None]:
    """Raises a 504 in work that takes longer; ``deadline`` is that of an earlier timeout."""
    try:
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + timeout_s
        async with asyncio.timeout_at(deadline) as timeout:
            yield
    except TimeoutError:
        # The work may have raised a timeout of its own.
        if timeout.expired():
            raise timed_out(timeout_s) from None
        raise


class BodyLimitMiddleware:
    """ASGI middleware that reads the body up to a limit and passes it on in one piece."""

    # A client that sends everything before it reads would miss an earlier response, so up to this
    # many times the limit is read and discarded.
    _READ_FACTOR = 8

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                body = await self._read(scope, receive)
        except TimeoutError:
            message = "the request body did not arrive in time"
            raise _body_error(408, message, "request_timeout") from None
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._limits.max_body_bytes
        message = f"the request body is too long; allowed: at most {limit} bytes"
        too_large = _body_error(413, message, "request_too_large")
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit * self._READ_FACTOR:
            raise too_large
        parts: list[bytes] = []
        size = 0
        more = True
        while more and size <= limit * self._READ_FACTOR:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise ClientDisconnect
            part = event.get("body", b"")
            size += len(part)
            if size <= limit:
                parts.append(part)
            more = event.get("more_body", False)
        if size > limit:
            raise too_large
        return b"".join(parts)


def _body_error(status: int, message: str, code: str) -> ApiError:
    # The rest of the body would be read as the next request.
    return ApiError(status, message, code, headers={"Connection": "close"})
