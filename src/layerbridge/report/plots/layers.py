"""Layer weights: by layer, by language, and over the steps of training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from layerbridge.errors import ResultError
from layerbridge.evaluation.results import Result
from layerbridge.report.plots import style
from layerbridge.tasks.languages import names
from layerbridge.training.weight_log import WeightLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOUR_MAP = "cividis"


def figure(
    results: Sequence[Result],
    *,
    width: float = style.WIDE,
    numbers: Mapping[str, int] | None = None,
) -> Figure:
    """As ``plots.layer_weights`` says: one result by language, several by layer.

    Raises:
        ResultError: no result has layer weights, or their numbers of layers differ.
    """
    weighted = [result for result in results if weights_of(result)]
    if len(weighted) == 1 and len(weights_of(weighted[0])) > 1:
        return by_language(weighted, width=width)
    return by_layer(weighted, width=width, numbers=numbers)


def by_layer(
    results: Sequence[Result],
    *,
    width: float = style.WIDE,
    numbers: Mapping[str, int] | None = None,
) -> Figure:
    """A line a method over the layers, the mean of its languages and runs; each run a thin one.

    Raises:
        ResultError: no result has layer weights, or their numbers of layers differ.
    """
    weighted = [result for result in results if weights_of(result)]
    depth = depth_of(weighted)
    with style.settings():
        return _lines(weighted, depth, width, numbers)


def by_language(results: Sequence[Result], *, width: float = style.WIDE) -> Figure:
    """A heat map of one method's weights, a row a language; of several runs the mean.

    The mark on the colour scale is where all layers weigh the same.

    Raises:
        ResultError: no result has layer weights, or their numbers of layers differ.
    """
    depth_of(results)
    rows: dict[str, list[Sequence[float]]] = {}
    for result in results:
        for code, row in weights_of(result).items():
            rows.setdefault(code, []).append(row)
    codes = sorted(rows, key=lambda code: code != "en")
    means = [[style.mean(column) for column in zip(*rows[code], strict=True)] for code in codes]
    title = f"{style.words(results[0].method)} ({style.words(results[0].task)})"
    if len(results) > 1:
        title += f", mean of {len(results)} runs"
    with style.settings():
        return _heat_map(codes, means, first_layer_of(results), title, width)


def over_steps(log: WeightLog, *, title: str, width: float = style.WIDE) -> Figure:
    """A heat map of a run's weights: steps from left to right, the last layer on top.

    Its colours are spread by the square root of the weight: a run that starts at the last layer has
    all other weights near zero for long.
    """
    import numpy as np
    from matplotlib.colors import PowerNorm

    weights = np.array(log.weights).T
    depth, last = len(weights), float(log.steps[-1])
    # A cell lasts until the next line; the last one is as wide as the one before it.
    gap = log.steps[-1] - log.steps[-2] if len(log.steps) > 1 else 1
    edges = [*map(float, log.steps), last + gap]
    with style.settings():
        made, axes = style.figure(width, 1.4 + min(3.2, 0.13 * depth + 1.0))
        scale = PowerNorm(0.5, vmin=min(0.0, float(weights.min())), vmax=float(weights.max()))
        mesh = axes.pcolormesh(
            edges,
            np.arange(depth + 1) + 0.5,
            weights,
            norm=scale,
            cmap=_COLOUR_MAP,
            rasterized=True,
        )
        axes.set_xlim(edges[0], edges[-1])
        style.layer_ticks(axes.yaxis, depth, first=1, first_layer=log.first_layer)
        axes.tick_params(axis="y", length=0)
        axes.set_ylabel("encoder layer")
        axes.set_xlabel("step")
        style.bare(axes)
        axes.set_title(style.words(title), loc="left", fontsize=11)
        _colour_bar(made, axes, mesh, depth, "mean weight")
    return made


def by_method(results: Iterable[Result]) -> dict[str, list[Result]]:
    """The results of each method, in the order that the methods appear in."""
    methods: dict[str, list[Result]] = {}
    for result in results:
        methods.setdefault(result.method, []).append(result)
    return methods


def weights_of(result: Result) -> dict[str, Sequence[float]]:
    """A result's weights by language, where it has some."""
    return {
        code: entry.layer_weights
        for code, entry in result.languages.items()
        if entry.layer_weights is not None
    }


def depth_of(results: Sequence[Result]) -> int:
    """How many layers all their weights have.

    Raises:
        ResultError: no result has layer weights, their numbers of layers differ, or a weight is no
            number.
    """
    depths: dict[int, Result] = {}
    for result in results:
        for code, row in weights_of(result).items():
            # JSON as Python reads it has NaN and Infinity.
            if not row or not all(map(math.isfinite, row)):
                raise ResultError(
                    f"the layer weights of {result.method} in {code} are not all numbers",
                    hint="evaluate it again",
                )
            depths[len(row)] = result
    if not depths:
        raise ResultError(
            "no result has layer weights",
            hint="evaluate a bridge whose fusion has them, such as global-softmax",
        )
    if len(depths) > 1:
        told = " and ".join(f"{depth} ({r.method})" for depth, r in sorted(depths.items()))
        raise ResultError(
            f"the results have different numbers of layers: {told}",
            allowed="results of one encoder",
        )
    (depth,) = depths
    return depth


def first_layer_of(results: Sequence[Result]) -> int:
    """The number of their lowest layer: 0 where the embeddings' output was mixed as well."""
    bridge = results[0].settings.get("bridge")
    return 0 if isinstance(bridge, dict) and bridge.get("embedding_layer") else 1


def mean_weights(result: Result) -> list[float]:
    """A result's weights by layer, each language counting the same."""
    return [style.mean(column) for column in zip(*weights_of(result).values(), strict=True)]


def _lines(
    results: Sequence[Result], depth: int, width: float, numbers: Mapping[str, int] | None
) -> Figure:
    made, axes = style.figure(width, 3.9)
    first_layer = first_layer_of(results)
    layers = range(first_layer, depth + first_layer)
    axes.axhline(1 / depth, color=style.GREY, lw=1.2, ls=":", label="all layers alike")
    for count, (method, of_method) in enumerate(by_method(results).items()):
        number = count if numbers is None else numbers[method]
        rows = [mean_weights(result) for result in of_method]
        name = style.words(method)
        if len(rows) > 1:
            # Runs may settle on different layers, and their mean is then no run's.
            for row in rows:
                axes.plot(layers, row, color=style.colour(number), lw=0.9, alpha=0.55)
            name += f" (mean of {len(rows)} runs)"
        axes.plot(
            layers,
            [style.mean(column) for column in zip(*rows, strict=True)],
            color=style.colour(number),
            marker=style.marker(number),
            ms=5.5,
            mec=style.PAPER,
            mew=0.6,
            lw=1.6,
            label=name,
        )
    style.layer_ticks(axes.xaxis, depth, first=first_layer, first_layer=first_layer)
    axes.set_xlabel("encoder layer")
    axes.set_ylim(bottom=min(-0.02 * axes.get_ylim()[1], axes.dataLim.y0))
    axes.set_ylabel("mean weight")
    axes.grid(axis="y", color=style.PALE, lw=0.7)
    axes.set_axisbelow(True)
    style.legend(made, axes, last=["all layers alike"])
    return made


def _heat_map(
    codes: list[str], rows: list[list[float]], first_layer: int, title: str, width: float
) -> Figure:
    depth = len(rows[0])
    named = names(codes)
    made, axes = style.figure(width, 1.5 + 0.28 * len(codes))
    # Weights below zero do not occur in a softmax; a scale from 0 keeps pictures comparable.
    least, most = min(0.0, *map(min, rows)), max(map(max, rows))
    image = axes.imshow(
        rows, aspect="auto", cmap=_COLOUR_MAP, vmin=least, vmax=most, interpolation="none"
    )
    axes.set_yticks(range(len(codes)), [style.words(named[code]) for code in codes])
    style.layer_ticks(axes.xaxis, depth, first=0, first_layer=first_layer)
    axes.set_xlabel("encoder layer")
    axes.tick_params(length=0)
    style.bare(axes)
    # The gap under English is the wider one.
    style.gaps(axes, len(codes), depth)
    if codes[0] == "en" and len(codes) > 1:
        axes.hlines([0.5], -0.5, depth - 0.5, colors=style.PAPER, lw=5)
    axes.set_title(title, loc="left", fontsize=11)
    _colour_bar(made, axes, image, depth, "mean weight")
    return made


def _colour_bar(made: Figure, axes: Axes, drawn: Any, depth: int, label: str) -> None:
    bar = made.colorbar(drawn, ax=axes, pad=0.015, fraction=0.04)
    bar.outline.set_visible(False)
    bar.set_label(label)
    bar.ax.axhline(1 / depth, color="white", lw=1.5, ls=":")
