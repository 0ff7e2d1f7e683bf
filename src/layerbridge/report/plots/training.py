"""The layer weights of a run over its training steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerbridge.report.plots import style
from layerbridge.report.plots.heat_map import heat_map
from layerbridge.report.plots.output import Plot
from layerbridge.training.weight_log import WeightLog

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@Plot
def layer_weights_in_training(
    log: WeightLog, *, title: str = "", width: float = style.WIDE
) -> Figure:
    """Draws a run's layer weights as a heat map: steps from left to right, the last layer on top.

    Args:
        log: of the run, as ``layerbridge.training.weight_log.read`` returns it.
        title: above the figure.
        width: in inches.
    """
    depth = len(log.weights[0])
    # A cell lasts until the next logged step, the last one as long as the one before it.
    interval = log.steps[-1] - log.steps[-2] if len(log.steps) > 1 else 1
    figure, axes = heat_map(
        [*zip(*log.weights, strict=True)],
        [*log.steps, log.steps[-1] + interval],
        [layer + log.first_layer - 0.5 for layer in range(depth + 1)],
        size=(width, 1.4 + min(3.2, 0.13 * depth + 1.0)),
        depth=depth,
        # A run that starts at the last layer has all other weights near zero for long.
        gamma=0.5,
        title=style.label(title),
        gaps=False,
    )
    axes.tick_params(axis="x", length=3.5)
    axes.set_xlabel("step")
    style.layer_ticks(axes.yaxis, log.first_layer, depth)
    axes.set_ylabel("encoder layer")
    return figure
