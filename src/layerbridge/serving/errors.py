"""Errors as clients see them: a status and OpenAI's body, never a stack trace."""

from __future__ import annotations

import logging
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from layerbridge.errors import LayerBridgeError, NotFiniteError
from layerbridge.serving.engine import EngineDownError
from layerbridge.serving.responses import ErrorBody, ErrorReply

log = logging.getLogger(__name__)

# Where the scope of a failed request has the error's code, for the metrics.
ERROR_CODE = "layerbridge.error_code"

_MAX_PROBLEMS = 3


class ApiError(Exception):
    """An error for the client: an HTTP status, a line, a code for programs, the field it is about.

    ``headers`` are those of the response.
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
        """The response body in OpenAI's format."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        if self.status == 429:
            kind = "rate_limit_error"
        body = ErrorBody(message=str(self), type=kind, param=self.param, code=self.code)
        return ErrorReply(error=body)


def unavailable(message: str, code: str, retry_after_s: int = 5) -> ApiError:
    """503: the server cannot answer now."""
    return ApiError(503, message, code, headers={"Retry-After": str(retry_after_s)})


def timed_out(timeout_s: float) -> ApiError:
    """504: the request took too long."""
    return ApiError(504, f"no answer within {timeout_s:g} seconds", "timeout")


def to_api_error(error: BaseException) -> ApiError:
    """Returns any exception as the client sees it, and logs those that are not the client's."""
    match error:
        case ApiError():
            return error
        case LayerBridgeError() if not isinstance(error, NotFiniteError):
            return ApiError(400, str(error), "invalid_value")
        case RequestValidationError():
            return _validation_error(error)
        case HTTPException():
            headers = dict(error.headers or {})
            return ApiError(error.status_code, str(error.detail), "http_error", headers=headers)
    return _server_error(error)


def _server_error(error: BaseException) -> ApiError:
    match error:
        case EngineDownError():
            return unavailable("the engine is down; try again", "engine_down")
        case NotFiniteError():
            # Neither the text, which is the client's, nor its row of a batch.
            message = str(NotFiniteError(error.what, hint=error.hint))
            log.error("%s", message)
            # OpenAI's client would send the request again.
            headers = {"X-Should-Retry": "false"}
            return ApiError(500, message, "model_error", headers=headers)
        case MemoryError():
            log.error("out of memory: %s", error)
            return unavailable("there is not enough memory for this request now", "out_of_memory")
    log.error("a request failed", exc_info=error)
    return ApiError(500, "internal server error; see the server log", "internal_error")


async def handle(request: Request, error: Exception) -> JSONResponse:
    """Starlette's exception handler."""
    return _response(request.scope, error)


def _response(scope: Scope, error: Exception) -> JSONResponse:
    api_error = to_api_error(error)
    scope[ERROR_CODE] = api_error.code
    return JSONResponse(api_error.body.model_dump(), api_error.status, api_error.headers)


class ErrorMiddleware:
    """ASGI middleware that turns exceptions into responses, unless one has been started.

    Starlette's own is outside of all other middleware, and raises them again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            return  # nobody would receive a response
        except Exception as error:
            if scope["type"] != "http":
                raise
            response = _response(scope, error)
            if not started:
                await response(scope, receive, send)


def _validation_error(error: RequestValidationError) -> ApiError:
    """Puts pydantic's problems into one line; each field once, whatever types it may have."""
    messages: dict[str, list[str]] = {}
    for problem in error.errors():
        messages.setdefault(_field(problem, error.body), []).append(problem["msg"])
    lines = []
    for field, texts in list(messages.items())[:_MAX_PROBLEMS]:
        text = " or ".join(dict.fromkeys(texts))
        lines.append(f"{field}: {text}" if field else text)
    param = next(iter(messages), "") or None
    return ApiError(400, "; ".join(lines), "invalid_value", param=param)


def _field(problem: Any, body: Any) -> str:
    """Returns a problem's field as a path, without the names of a union's types."""
    path = list(problem["loc"])
    if problem["type"] == "json_invalid":
        return ""
    if path and path[0] in ("body", "path", "query"):
        path = path[1:]
    field, value = "", body
    for step in path:
        if _contains(value, step):
            value = value[step]
        elif problem["type"] != "missing" or step != path[-1]:
            continue
        field += f"[{step}]" if isinstance(step, int) else f".{step}"
    return field.lstrip(".")


def _contains(value: Any, step: int | str) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value
