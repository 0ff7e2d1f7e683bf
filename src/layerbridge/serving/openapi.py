"""The OpenAPI document, where FastAPI's own would not be true."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_KEY = "key"


def document(app: FastAPI, *, keys: bool) -> dict[str, Any]:
    """The document of an app.

    Args:
        app: its routes are there.
        keys: whether ``/v1`` needs one.
    """
    made = get_openapi(title=app.title, version=app.version, routes=app.routes)
    for path, methods in made["paths"].items():
        for operation in methods.values():
            # FastAPI's own reply to a request that does not fit; ours is a 400.
            operation["responses"].pop("422", None)
            if keys and path.startswith("/v1/"):
                operation["security"] = [{_KEY: []}]
    components = made["components"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    if keys:
        components["securitySchemes"] = {_KEY: {"type": "http", "scheme": "bearer"}}
    return made
