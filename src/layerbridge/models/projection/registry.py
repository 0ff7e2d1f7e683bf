"""The projections by name. To add one: a file with a subclass of ``Projection``, a line here."""

from __future__ import annotations

import inspect
from typing import Any

from layerbridge.errors import ConfigError
from layerbridge.models.own_options import check_own_options
from layerbridge.models.projection.linear import Projection
from layerbridge.models.projection.mlp import MlpProjection
from layerbridge.models.projection.perceiver import PerceiverProjection

PROJECTIONS: dict[str, type[Projection]] = {
    "linear": Projection,
    "mlp": MlpProjection,
    "perceiver": PerceiverProjection,
}


def names() -> tuple[str, ...]:
    """Returns the names that ``projection=`` accepts."""
    return tuple(PROJECTIONS)


def check(name: str, start: str) -> None:
    """Checks that a projection exists and can start so.

    Raises:
        ConfigError: it does not.
    """
    if name not in PROJECTIONS:
        raise ConfigError(f"unknown projection {name!r}", allowed=names())
    if start not in PROJECTIONS[name].starts:
        raise ConfigError(
            f"projection {name!r} cannot start {start!r}: its soft tokens stand for no words",
            allowed=f"projection_start {' or '.join(PROJECTIONS[name].starts)}",
        )


def default_start(name: str) -> str:
    """Returns the start that works: the last of a projection's, or ``"aligned"``, if unknown."""
    return PROJECTIONS.get(name, Projection).starts[-1]


def build(
    name: str,
    encoder_width: int,
    language_model_width: int,
    *,
    boundary: bool = True,
    **options: Any,
) -> Projection:
    """Returns a new projection E → D.

    Raises:
        ConfigError: the name or an option is unknown, or an option is out of range.
    """
    if name not in PROJECTIONS:
        raise ConfigError(f"unknown projection {name!r}", allowed=names())
    projection = PROJECTIONS[name]
    check_own_options(f"projection {name!r}", projection, Projection, options)
    return projection(encoder_width, language_model_width, boundary=boundary, **options)


def soft_tokens(name: str, options: dict[str, Any] | None) -> int | None:
    """Returns the number of soft tokens of every text; None for one for each encoder token."""
    if name != "perceiver":
        return None
    default = inspect.signature(PerceiverProjection.__init__).parameters["latents"].default
    return int((options or {}).get("latents", default))
