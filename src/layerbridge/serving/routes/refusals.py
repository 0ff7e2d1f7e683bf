"""Refusals: what the OpenAPI document says of replies that are no success."""

from __future__ import annotations

from typing import Any

from layerbridge.serving.responses import ErrorReply

_WORDS = {
    400: "The request is not right; the message names the field.",
    401: "An API key is needed.",
    404: "There is no such model.",
    408: "The body did not arrive in time.",
    413: "The body is too long.",
    429: "The server is busy; see Retry-After.",
    500: "The server made a mistake.",
    503: "The engine is starting, down, or about to stop; see Retry-After.",
    504: "The answer took too long.",
}

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": words} for status, words in _WORDS.items()
}
