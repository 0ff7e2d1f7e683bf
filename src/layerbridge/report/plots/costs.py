"""Accuracy against cost: what each method gives, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerbridge.report.plots import style
from layerbridge.report.plots.output import Plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class CostPoint:
    """One method.

    Attributes:
        method: its name.
        cost: what it takes, in the unit of the axis.
        accuracy: in percent.
        low: lower end of the interval of the accuracy.
        high: its upper end.
    """

    method: str
    cost: float
    accuracy: float
    low: float
    high: float


@Plot
def accuracy_against_cost(
    points: Sequence[CostPoint],
    *,
    cost: str = "training, seconds",
    accuracy: str = "accuracy, %",
    width: float = style.WIDE,
) -> Figure:
    """Draws each method's accuracy against its cost, with the interval of the accuracy.

    Args:
        points: one for each method, in the order of the legend.
        cost: label of the horizontal axis.
        accuracy: label of the vertical axis.
        width: in inches.
    """
    figure, axes = style.figure(width, 0.55 * width + 0.2 * ((len(points) + 2) // 3))
    for index, point in enumerate(points):
        axes.errorbar(
            [point.cost],
            [point.accuracy],
            # Rounding may put a value 1e-17 outside its interval.
            yerr=[
                [max(0.0, point.accuracy - point.low)],
                [max(0.0, point.high - point.accuracy)],
            ],
            ls="none",
            elinewidth=1.4,
            label=style.label(point.method),
            **style.marks(index),
        )
    axes.set_xlim(left=0)
    axes.set_xlabel(style.label(cost))
    axes.set_ylabel(style.label(accuracy))
    axes.grid(color=style.PALE, lw=0.7)
    axes.set_axisbelow(True)
    style.legend(axes)
    return figure
