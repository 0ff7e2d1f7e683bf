"""The fusion strategies. A new one is a file with a ``Fusion`` and a line in ``STRATEGIES``."""

from __future__ import annotations

import inspect
from typing import Any

from layerbridge.errors import ConfigError
from layerbridge.fusion.fixed import Fixed
from layerbridge.fusion.global_softmax import GlobalSoftmax
from layerbridge.fusion.last import Last
from layerbridge.fusion.strategy import Fusion
from layerbridge.fusion.token_softmax import TokenSoftmax
from layerbridge.fusion.uniform import Uniform

STRATEGIES: dict[str, type[Fusion]] = {
    "last": Last,
    "uniform": Uniform,
    "fixed": Fixed,
    "global-softmax": GlobalSoftmax,
    "token-softmax": TokenSoftmax,
}

__all__ = ["STRATEGIES", "Fusion", "build", "names"]


def names() -> tuple[str, ...]:
    """The strategies that ``fusion=`` takes."""
    return tuple(STRATEGIES)


def build(
    name: str,
    *,
    layers: int,
    width: int,
    start: str = "uniform",
    normalize: str | None = None,
    **options: Any,
) -> Fusion:
    """The strategy of that name for an encoder of ``layers`` layers and ``width`` E.

    Raises:
        ConfigError: the name or an option is unknown, or an option does not fit the encoder.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"unknown fusion {name!r}", allowed=names())
    strategy = STRATEGIES[name]
    everyones = inspect.signature(Fusion.__init__).parameters
    own = set(inspect.signature(strategy.__init__).parameters) - set(everyones)
    for option in options:
        if option not in own:
            allowed = ", ".join(sorted(own)) or "none"
            raise ConfigError(f"fusion {name!r} has no option {option!r}", allowed=allowed)
    return strategy(layers, width, start=start, normalize=normalize, **options)
