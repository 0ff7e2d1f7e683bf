"""The fusion strategies by name. To add one: a file with a ``Fusion``, and a line here."""

from __future__ import annotations

from typing import Any

from layerbridge.errors import ConfigError
from layerbridge.models.fusion.attention import Attention
from layerbridge.models.fusion.dwatt import DepthwiseAttention
from layerbridge.models.fusion.fine_grained import FineGrained
from layerbridge.models.fusion.fixed import Fixed
from layerbridge.models.fusion.global_softmax import GlobalSoftmax
from layerbridge.models.fusion.last import Last
from layerbridge.models.fusion.scalar_mix import ScalarMix
from layerbridge.models.fusion.strategy import Fusion
from layerbridge.models.fusion.token_softmax import TokenSoftmax
from layerbridge.models.fusion.uniform import Uniform
from layerbridge.models.own_options import check_own_options

STRATEGIES: dict[str, type[Fusion]] = {
    "last": Last,
    "uniform": Uniform,
    "fixed": Fixed,
    "global-softmax": GlobalSoftmax,
    "token-softmax": TokenSoftmax,
    "scalar-mix": ScalarMix,
    "fine-grained": FineGrained,
    "attention": Attention,
    "dwatt": DepthwiseAttention,
}


def names() -> tuple[str, ...]:
    """Returns the names that ``fusion=`` accepts."""
    return tuple(STRATEGIES)


def build(
    name: str,
    *,
    num_layers: int,
    width: int,
    start: str | None = None,
    normalize: str | None = None,
    **options: Any,
) -> Fusion:
    """Returns a new strategy for an encoder of ``num_layers`` L and ``width`` E.

    A ``start`` of None is the strategy's own.

    Raises:
        ConfigError: the name or an option is unknown, or an option does not fit the encoder.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"unknown fusion {name!r}", allowed=names())
    strategy = STRATEGIES[name]
    check_own_options(f"fusion {name!r}", strategy, Fusion, options)
    start = strategy.default_start if start is None else start
    return strategy(num_layers, width, start=start, normalize=normalize, **options)


def register_fusion(name: str, strategy: type[Fusion]) -> None:
    """Makes a strategy available as ``fusion=name``.

    A checkpoint stores only the name: register the strategy before loading one.

    Args:
        name: for ``BridgeConfig.fusion`` and ``--fusion``.
        strategy: a subclass of ``layerbridge.models.fusion.Fusion``; its own keyword arguments
            are ``fusion_options``.

    Raises:
        ConfigError: the name is taken, or the class is not a ``Fusion``.
    """
    if not (isinstance(strategy, type) and issubclass(strategy, Fusion)):
        raise ConfigError(f"{strategy!r} is not a fusion strategy", allowed="a subclass of Fusion")
    if STRATEGIES.get(name, strategy) is not strategy:
        raise ConfigError(f"the fusion {name!r} is already registered", hint="choose another name")
    STRATEGIES[name] = strategy
