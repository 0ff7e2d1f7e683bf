"""The OpenAPI document, corrected where FastAPI's own does not match this server."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_KEY = "key"


def openapi_document(app: FastAPI, *, keys: bool) -> dict[str, Any]:
    """Returns the document of an app; with ``keys``, ``/v1`` needs an API key."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            # FastAPI's response to an invalid request; here it is a 400.
            operation["responses"].pop("422", None)
            if keys and path.startswith("/v1/"):
                operation["security"] = [{_KEY: []}]
    components = document["components"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    if keys:
        components["securitySchemes"] = {_KEY: {"type": "http", "scheme": "bearer"}}
    return document
