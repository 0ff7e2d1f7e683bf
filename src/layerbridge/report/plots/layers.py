"""The mean layer weights of each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from layerbridge.evaluation.results import Result
from layerbridge.report.layer_weights import (
    by_method,
    column_means,
    layers_of,
    mean_weights,
    weights_of,
)
from layerbridge.report.plots import style
from layerbridge.report.plots.languages import layer_weights_by_language
from layerbridge.report.plots.output import Plot
from layerbridge.report.plots.palette import palette_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_UNIFORM = "uniform weights"


@Plot
def layer_weights(results: Sequence[Result]) -> Figure:
    """Draws the layer weights of one result by language, those of several by layer.

    Args:
        results: those without layer weights are ignored.

    Raises:
        ResultError: no result has layer weights, or their layers differ.
    """
    weighted = [result for result in results if weights_of(result)]
    if len(weighted) == 1 and len(weights_of(weighted[0])) > 1:
        return layer_weights_by_language.figure(weighted)
    return layer_weights_by_layer.figure(weighted)


@Plot
def layer_weights_by_layer(
    results: Sequence[Result],
    *,
    width: float = style.WIDE,
    palette: Mapping[str, int] | None = None,
) -> Figure:
    """Draws a line per method over the layers: the mean of its languages and runs.

    Each of several runs is a thin line. The dotted line is where all layers weigh the same.

    Args:
        results: those without layer weights are ignored.
        width: in inches.
        palette: index of each method's color and marker; None takes ``palette_of``.

    Raises:
        ResultError: no result has layer weights, or their layers differ.
    """
    palette = palette or palette_of(results)
    weighted = [result for result in results if weights_of(result)]
    layers = layers_of(weighted)
    figure, axes = style.figure(width, 3.9)
    axes.axhline(1 / len(layers), color=style.GREY, lw=1.2, ls=":", label=_UNIFORM)
    for method, runs in by_method(weighted).items():
        index = palette[method]
        label = style.label(method)
        lines = [mean_weights(result) for result in runs]
        if len(lines) > 1:
            # Runs may settle on different layers; their mean is then unlike any of them.
            for line in lines:
                axes.plot(layers, line, color=style.color(index), lw=0.9, alpha=0.55)
            label += f" (mean of {len(lines)} runs)"
        axes.plot(
            layers,
            column_means(lines),
            lw=1.6,
            label=label,
            **style.marks(index),
        )
    style.layer_ticks(axes.xaxis, layers.start, len(layers))
    axes.set_xlabel("encoder layer")
    axes.set_ylim(bottom=min(-0.02 * axes.get_ylim()[1], axes.dataLim.y0))
    axes.set_ylabel("mean weight")
    axes.grid(axis="y", color=style.PALE, lw=0.7)
    axes.set_axisbelow(True)
    style.legend(axes, last=[_UNIFORM])
    return figure
