"""Service: what the routes of one server share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property

from starlette.datastructures import State
from starlette.requests import Request

from layerbridge.serving.conversation import ChatMapping
from layerbridge.serving.engine import Engine
from layerbridge.serving.errors import HttpError, unavailable, unknown_model
from layerbridge.serving.limits import Gate, Limits
from layerbridge.serving.metrics import Metrics
from layerbridge.serving.vocabulary import Vocabulary


@dataclass
class Service:
    """One server's engine and settings.

    Attributes:
        engine: what answers.
        limits: what it may be asked.
        mapping: what becomes of chat messages.
        metrics: what is counted.
        gate: who may ask now.
        state: the app's; with ``state.drain`` set, new requests are refused and running ones end.
        created: when the server began (seconds since 1970).
        failed: whether the engine could not be started.
    """

    engine: Engine
    limits: Limits
    mapping: ChatMapping
    metrics: Metrics
    gate: Gate
    state: State
    created: int = field(default_factory=lambda: int(time.time()))
    failed: bool = False

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The language model's, which all bridges share."""
        return Vocabulary(self.engine.bridges.language_model.tokenizer)

    @property
    def unavailable_reason(self) -> HttpError | None:
        """Why it does not answer now, if it does not."""
        if self.state.drain:
            return unavailable("the server is about to stop", "draining")
        if self.failed:
            return unavailable("the engine could not be started", "engine_down", 30)
        if self.engine.state == "starting":
            return unavailable("the engine is starting; try again", "starting")
        if self.engine.state == "down":
            return unavailable("the engine is down; try again", "engine_down")
        return None

    def check_model(self, name: str) -> None:
        """Refuses a model that there is not.

        Raises:
            HttpError: 404.
        """
        if name not in self.engine.bridges:
            raise unknown_model(name, self.engine.bridges)


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service: Service = request.app.state.service
    return service
