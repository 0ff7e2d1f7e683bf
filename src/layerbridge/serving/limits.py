"""Limits: how much a client may ask for at once, and how many may ask.

A limit that a request breaks by itself is a 400 that names the field; a body that is too long is
never read to its end (413); what comes while all places are taken waits, and beyond that is told
to come back (429).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from layerbridge.errors import ConfigError
from layerbridge.serving.errors import (
    BadRequestError,
    ErrorResponse,
    HttpError,
    too_busy,
    too_large,
    too_slow,
    took_too_long,
)


@dataclass(frozen=True)
class Limits:
    """What a server allows.

    Attributes:
        max_body_bytes: of a request.
        max_text_chars: of a text, and of an instruction.
        max_prompts: in one request to /v1/completions.
        max_options: of a question.
        max_option_chars: of each option.
        max_tokens: of an answer.
        max_n: answers to one text.
        concurrency: answers that are worked on at once.
        queue: answers that wait; beyond it is a 429.
        timeout_s: from a request's arrival to its answer's end, waiting and all.
        body_timeout_s: until all of a request's body is there.
    """

    max_body_bytes: int = 1024 * 1024
    max_text_chars: int = 20_000
    max_prompts: int = 64
    max_options: int = 256
    max_option_chars: int = 500
    max_tokens: int = 1024
    max_n: int = 8
    concurrency: int = 64
    queue: int = 256
    timeout_s: float = 120.0
    body_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "queue" else 1
            if value < least and not (field.name.endswith("_s") and value > 0):
                allowed = "more than 0" if field.name.endswith("_s") else f"{least} or more"
                raise ConfigError(f"{field.name}={value}", allowed=allowed)

    def check_text(self, text: str | None, param: str) -> None:
        """Refuses a text that is too long.

        Raises:
            BadRequestError: it is.
        """
        if text is not None:
            self._most(len(text), self.max_text_chars, "characters", param)

    def check_answers(self, n: int, max_tokens: int | None, param: str = "max_tokens") -> int:
        """How many tokens each of n answers may have.

        Raises:
            BadRequestError: that is too many tokens or answers.
        """
        self._most(n, self.max_n, "answers", "n")
        if max_tokens is None:
            return min(64, self.max_tokens)
        self._most(max_tokens, self.max_tokens, "tokens", param)
        return max_tokens

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Refuses too many texts, or one that is too long.

        Raises:
            BadRequestError: they are.
        """
        self._most(len(prompts), self.max_prompts, "prompts", "prompt")
        for prompt in prompts:
            self.check_text(prompt, "prompt")

    def check_options(self, options: Sequence[str] | None) -> None:
        """Refuses too many options, or one that is too long.

        Raises:
            BadRequestError: they are.
        """
        if options is not None:
            self._most(len(options), self.max_options, "options", "options")
            for place, option in enumerate(options):
                self._most(len(option), self.max_option_chars, "characters", f"options[{place}]")

    def _most(self, count: int, most: int, what: str, param: str) -> None:
        if count > most:
            raise BadRequestError(
                f"{param}: {count} {what}", allowed=f"at most {most}", param=param, code="too_many"
            )


class Gate:
    """Lets as many answers through as may be worked on at once; the others wait in their order.

    Args:
        limits: ``concurrency`` and ``queue``.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.running = 0
        self.waiting = 0

    @asynccontextmanager
    async def admit(self, answers: int = 1) -> AsyncIterator[None]:
        """A place for a request while it is worked on.

        Args:
            answers: how many it asks for. A request for more than can ever be worked on at once
                is let in alone.

        Raises:
            HttpError: 429, too many are waiting.
        """
        if self._line or not self._fits(answers):
            if self.waiting + answers > self._limits.queue:
                raise too_busy()
            await self._wait(answers)
        else:
            self.running += answers
        try:
            yield
        finally:
            self.running -= answers
            self._next()

    def _fits(self, answers: int) -> bool:
        return self.running == 0 or self.running + answers <= self._limits.concurrency

    async def _wait(self, answers: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (answers, turn)
        self._line.append(place)
        self.waiting += answers
        try:
            await turn
        except asyncio.CancelledError:
            # It may have been its turn in the very moment it was cancelled.
            if turn.done() and not turn.cancelled():
                self.running -= answers
            else:
                self._line.remove(place)
                self.waiting -= answers
            self._next()
            raise

    def _next(self) -> None:
        while self._line and self._fits(self._line[0][0]):
            answers, turn = self._line.popleft()
            self.waiting -= answers
            self.running += answers
            turn.set_result(None)


@asynccontextmanager
async def in_time(timeout_s: float) -> AsyncIterator[None]:
    """Ends what takes longer.

    Raises:
        HttpError: 504, it did.
    """
    try:
        async with asyncio.timeout(timeout_s) as timeout:
            yield
    except TimeoutError:
        # The work may have a timeout of its own.
        if timeout.expired():
            raise took_too_long(timeout_s) from None
        raise


class BodyLimit:
    """ASGI: reads the body up to a limit, and hands it on whole.

    Args:
        app: what reads the request then.
        limits: ``max_body_bytes`` and ``body_timeout_s``.
    """

    # A client that writes all before it reads would never see a reply that came earlier.
    _PATIENCE = 8

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI calls."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                body = await self._read(scope, receive)
        except TimeoutError:
            await ErrorResponse(too_slow())(scope, receive, send)
        except HttpError as error:
            await ErrorResponse(error)(scope, receive, send)
        else:
            if body is not None:
                await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body; None if the client left before it was all there."""
        most = self._limits.max_body_bytes
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if told.isdigit() and int(told) > most * self._PATIENCE:
            raise too_large(most)
        parts: list[bytes] = []
        size = 0
        more = True
        while more and size <= most * self._PATIENCE:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size <= most:
                parts.append(part)
            more = message.get("more_body", False)
        if size > most:
            raise too_large(most)
        return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives the body as one message, and what comes after it as it comes."""
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
