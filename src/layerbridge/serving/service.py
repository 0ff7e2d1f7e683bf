"""Service: what the routes of one server share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from fastapi import Depends
from starlette.datastructures import State
from starlette.requests import Request
from starlette.types import Scope

from layerbridge.serving.conversation import ChatMapping
from layerbridge.serving.engine import Engine
from layerbridge.serving.errors import ApiError, unavailable
from layerbridge.serving.limits import Gate, Limits
from layerbridge.serving.metrics import Metrics
from layerbridge.serving.vocabulary import Vocabulary


@dataclass
class Service:
    """One server's engine and settings."""

    engine: Engine
    limits: Limits
    mapping: ChatMapping
    metrics: Metrics
    gate: Gate
    state: State  # the app's; with state.drain set, new requests are refused
    created: int = field(default_factory=lambda: int(time.time()))
    failed: bool = False  # whether the engine failed to start

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The language model's vocabulary, which all bridges share."""
        return Vocabulary(self.engine.bridges.language_model.tokenizer)

    @property
    def unavailable_reason(self) -> ApiError | None:
        """Why the server cannot answer now, if it cannot."""
        if self.state.drain:
            return unavailable("the server is shutting down", "draining")
        if self.failed:
            return unavailable("the engine failed to start", "engine_down", 30)
        if self.engine.state == "starting":
            return unavailable("the engine is starting; try again", "starting")
        if self.engine.state == "down":
            return unavailable("the engine is down; try again", "engine_down")
        return None

    def check_available(self, scope: Scope) -> None:
        """Raises a 503 for an API request that cannot be answered now."""
        if scope["path"].startswith("/v1/") and (reason := self.unavailable_reason) is not None:
            raise reason

    def check_model(self, name: str) -> None:
        """Raises a 404 for an unknown model."""
        if name not in self.engine.bridges:
            message = f"unknown model {name[:100]!r}; allowed: {', '.join(self.engine.bridges)}"
            raise ApiError(404, message, "model_not_found", param="model")

    def check_language(self, name: str, language: str | None) -> None:
        """Raises a 400 for a language that a known model has no mean of."""
        if language is None:
            return
        centering = self.engine.bridges[name].centering
        if centering is None or centering.means.code(language) is None:
            known = "no language" if centering is None else ", ".join(centering.languages)
            message = f"{name} has no mean of the language {language[:100]!r}; allowed: {known}"
            raise ApiError(400, message, "invalid_value", param="language")


async def get_service(request: Request) -> Service:
    """Returns the service of a request's app."""
    service: Service = request.app.state.service
    return service


ServiceDependency = Annotated[Service, Depends(get_service)]
