"""The layer weights of one method in each language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from layerbridge.evaluation.results import Result
from layerbridge.report.layer_weights import column_means, layers_of, weights_of
from layerbridge.report.plots import style
from layerbridge.report.plots.heat_map import layers_by_row
from layerbridge.report.plots.output import Plot
from layerbridge.tasks.languages import names

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@Plot
def layer_weights_by_language(results: Sequence[Result], *, width: float = style.WIDE) -> Figure:
    """Draws a method's layer weights as a heat map, a row per language; the mean of several runs.

    The mark on the color bar is the weight of each layer if all were equal.

    Args:
        results: of one method.
        width: in inches.

    Raises:
        ResultError: no result has layer weights, or their layers differ.
    """
    layers = layers_of(results)
    vectors: dict[str, list[Sequence[float]]] = {}
    for result in results:
        for code, weights in weights_of(result).items():
            vectors.setdefault(code, []).append(weights)
    labels = names(vectors)
    codes = sorted(vectors, key=lambda code: code != "en")
    title = f"{style.label(results[0].method)} ({style.label(results[0].task)})"
    figure, axes = layers_by_row(
        [style.label(labels[code]) for code in codes],
        [column_means(vectors[code]) for code in codes],
        layers.start,
        row_height=0.28,
        width=width,
        title=f"{title}, mean of {len(results)} runs" if len(results) > 1 else title,
    )
    if codes[0] == "en" and len(codes) > 1:
        # English is set apart: methods are trained on it.
        axes.hlines(0.5, layers[0] - 0.5, layers[-1] + 0.5, colors=style.PAPER, lw=5)
    return figure
