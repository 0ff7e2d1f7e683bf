"""Layer weights in result files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

from layerbridge.errors import ResultError
from layerbridge.evaluation.method_names import distinguish
from layerbridge.evaluation.results import Result


def by_method(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Returns the results of each method, in order of appearance; settings are told apart."""
    methods: dict[str, list[Result]] = {}
    for result in distinguish([*results]):
        methods.setdefault(result.method, []).append(result)
    return methods


def weights_of(result: Result) -> dict[str, Sequence[float]]:
    """Returns the layer weights of a result by language; empty if it has none."""
    entries = result.languages.items()
    return {code: entry.layer_weights for code, entry in entries if entry.layer_weights is not None}


def mean_weights(result: Result) -> list[float]:
    """Returns the layer weights of a result, each language counting the same."""
    return column_means([*weights_of(result).values()])


def column_means(rows: Sequence[Sequence[float]]) -> list[float]:
    """Returns the mean of each column."""
    return [fmean(column) for column in zip(*rows, strict=True)]


def layers_of(results: Sequence[Result]) -> range:
    """Returns the numbers of the layers that all the weights belong to.

    The first is 1, or 0 (the embedding output) if the embedding layer is fused as well.

    Raises:
        ResultError: no result has layer weights, their layers differ, or a weight is not a finite
            number.
    """
    methods: dict[range, str] = {}
    for result in results:
        bridge = result.settings.get("bridge")
        first = 0 if isinstance(bridge, dict) and bridge.get("embedding_layer") else 1
        for code, weights in weights_of(result).items():
            # Python reads NaN and Infinity from JSON.
            if not weights or not all(map(math.isfinite, weights)):
                raise ResultError(
                    f"the layer weights of {result.method} in {code} are not all finite numbers",
                    hint="evaluate it again",
                )
            methods[range(first, first + len(weights))] = result.method
    if not methods:
        raise ResultError(
            "no result has layer weights",
            hint="evaluate a bridge whose fusion has them, such as global-softmax",
        )
    if len(methods) > 1:
        pairs = sorted(methods.items(), key=lambda pair: (len(pair[0]), pair[0].start))
        found = " and ".join(f"{layers[0]} to {layers[-1]} ({name})" for layers, name in pairs)
        raise ResultError(
            f"the results have different layers: {found}", allowed="results of one encoder"
        )
    return next(iter(methods))
