"""Errors as a client is told of them: OpenAI's body, a status, and never a stack trace."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from layerbridge.errors import LayerBridgeError
from layerbridge.serving.engine import EngineDown
from layerbridge.serving.responses import ErrorBody, ErrorReply

log = logging.getLogger(__name__)

# Where an ErrorResponse leaves its code for whoever counts.
ERROR_CODE = "layerbridge.error_code"

_MOST_TOLD = 3


class BadRequestError(LayerBridgeError):
    """A request that its sender can mend.

    Args:
        problem: as in ``LayerBridgeError``.
        allowed: likewise.
        param: the field it is about.
        code: what a program can tell it by.
    """

    def __init__(
        self,
        problem: str,
        *,
        allowed: str | Iterable[str] | None = None,
        param: str | None = None,
        code: str = "invalid_value",
    ) -> None:
        super().__init__(problem, allowed=allowed)
        self.param = param
        self.code = code


class HttpError(Exception):
    """What a client is told.

    Args:
        status: of HTTP.
        message: one line.
        code: what a program can tell it by.
        param: the field it is about.
        headers: of the reply.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = headers or {}

    @property
    def body(self) -> ErrorReply:
        """As OpenAI writes it."""
        if self.status == 429:
            kind = "rate_limit_error"
        else:
            kind = "invalid_request_error" if self.status < 500 else "server_error"
        return ErrorReply(
            error=ErrorBody(message=str(self), type=kind, param=self.param, code=self.code)
        )


def unknown_model(name: str, known: Iterable[str]) -> HttpError:
    """404: there is no such bridge."""
    message = f"there is no model {name[:100]!r}; allowed: {', '.join(known)}"
    return HttpError(404, message, "model_not_found", param="model")


def unauthorized() -> HttpError:
    """401: no API key, or a wrong one."""
    return HttpError(
        401,
        "an API key is needed; send it as 'Authorization: Bearer KEY'",
        "invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )


def too_large(most: int) -> HttpError:
    """413: the body is too long."""
    # What is left of the body would be read as the next request.
    return HttpError(
        413,
        f"the request's body is too long; allowed: at most {most} bytes",
        "request_too_large",
        headers={"Connection": "close"},
    )


def too_slow() -> HttpError:
    """408: the body does not arrive."""
    return HttpError(
        408,
        "the request's body did not arrive in time",
        "request_timeout",
        headers={"Connection": "close"},
    )


def too_busy() -> HttpError:
    """429: as many as can wait are waiting."""
    return HttpError(
        429, "the server is busy; try again", "rate_limit_exceeded", headers={"Retry-After": "1"}
    )


def unavailable(why: str, code: str, retry_after_s: int = 5) -> HttpError:
    """503: not now."""
    return HttpError(503, why, code, headers={"Retry-After": str(retry_after_s)})


def took_too_long(timeout_s: float) -> HttpError:
    """504: the answer did not come in time."""
    return HttpError(504, f"no answer within {timeout_s:g} seconds", "timeout")


def as_http(error: BaseException) -> HttpError:
    """What a client is told of any exception; one that is nobody's mistake but ours is logged."""
    match error:
        case HttpError():
            told = error
        case BadRequestError():
            told = HttpError(400, str(error), error.code, param=error.param)
        case LayerBridgeError():
            told = HttpError(400, str(error), "invalid_value")
        case EngineDown():
            told = unavailable("the engine is down; try again", "engine_down")
        case RequestValidationError():
            told = _invalid(error.errors(), error.body)
        case HTTPException():
            headers = dict(error.headers or {})
            told = HttpError(error.status_code, str(error.detail), "http_error", headers=headers)
        case _:
            log.error("a request failed", exc_info=error)
            told = HttpError(500, "the server made a mistake; it is in its log", "internal_error")
    return told


class ErrorResponse(JSONResponse):
    """An error as a reply.

    Args:
        error: the exception.
    """

    def __init__(self, error: BaseException) -> None:
        told = as_http(error)
        self._code = told.code
        super().__init__(told.body.model_dump(), told.status, told.headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI calls."""
        scope[ERROR_CODE] = self._code
        await super().__call__(scope, receive, send)


async def handle(request: Request, error: Exception) -> ErrorResponse:
    """An exception handler, as Starlette wants it."""
    return ErrorResponse(error)


class ErrorMiddleware:
    """ASGI: whatever the app below raises becomes a reply, if none has begun.

    Starlette's own place for this is outside of all middleware, and raises again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI calls."""
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if scope["type"] != "http":
                raise
            reply = ErrorResponse(error)
            if not begun:
                await reply(scope, receive, send)


def _invalid(problems: Sequence[Any], body: Any) -> HttpError:
    """Pydantic's findings in one line, a field once however many types it might have had."""
    found: dict[str, list[str]] = {}
    for problem in problems:
        found.setdefault(_field(problem, body), []).append(problem["msg"])
    lines = [
        f"{field}: {' or '.join(dict.fromkeys(said))}" if field else " or ".join(said)
        for field, said in list(found.items())[:_MOST_TOLD]
    ]
    param = next(iter(found), "") or None
    return HttpError(400, "; ".join(lines), "invalid_value", param=param)


def _field(problem: Any, body: Any) -> str:
    """Where it is. Of a union, pydantic's place also names the type that was tried: left out."""
    place = list(problem["loc"])
    if problem["type"] == "json_invalid":
        return ""
    if place and place[0] in ("body", "path", "query"):
        place = place[1:]
    field, value = "", body
    for step in place:
        if _has(value, step):
            value = value[step]
        elif problem["type"] != "missing" or step != place[-1]:
            continue
        field += f"[{step}]" if isinstance(step, int) else f".{step}"
    return field.lstrip(".")


def _has(value: Any, step: int | str) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value
