"""Error responses, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Any

from layerbridge.serving.responses import ErrorReply

_DESCRIPTIONS = {
    400: "Invalid request; the message names the field.",
    401: "Missing or invalid API key.",
    404: "Unknown model.",
    408: "The body did not arrive in time.",
    413: "The body is too long.",
    415: "The Content-Type is not JSON.",
    429: "The server is busy; see Retry-After.",
    500: "Internal server error, or the models' numbers overflow.",
    503: "The server cannot answer now; see Retry-After.",
    504: "The answer took too long.",
}

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": description}
    for status, description in _DESCRIPTIONS.items()
}
STREAM_RESPONSES = {200: {"content": {"text/event-stream": {}}}, **ERROR_RESPONSES}
