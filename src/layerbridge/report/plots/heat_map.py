"""The heat map that the figures of layer weights share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from layerbridge.report.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOR_MAP = "cividis"


def heat_map(
    weights: Sequence[Sequence[float]],
    columns: Sequence[float],
    rows: Sequence[float],
    *,
    size: tuple[float, float],
    depth: int,
    gamma: float = 1.0,
    title: str = "",
    unit: str = "mean weight",
    gaps: bool = True,
) -> tuple[Figure, Axes]:
    """Draws weights as colored cells, with a color bar that marks uniform weights.

    Args:
        weights: rows of cells.
        columns: positions of the vertical edges of the cells.
        rows: positions of the horizontal edges.
        size: in inches.
        depth: number of layers.
        gamma: colors follow weight ** gamma; 0.5 tells small weights apart.
        title: of the figure.
        unit: of the color bar.
        gaps: whether narrow gaps separate the cells.
    """
    from matplotlib.colors import PowerNorm

    figure, axes = style.figure(*size)
    least, largest = min(map(min, weights)), max(map(max, weights))
    mesh = axes.pcolormesh(
        columns,
        rows,
        weights,
        # Softmax weights are not negative; a scale from 0 keeps figures comparable.
        norm=PowerNorm(gamma, vmin=min(0.0, least), vmax=largest),
        cmap=COLOR_MAP,
        edgecolors=style.PAPER if gaps else "none",
        linewidth=0.8,
        rasterized=not gaps,
    )
    axes.set_title(title, loc="left", fontsize=11)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(mesh, ax=axes, pad=0.015, fraction=0.04, label=unit)
    bar.outline.set_visible(False)
    bar.ax.axhline(1 / depth, color="white", lw=1.5, ls=":")
    return figure, axes


def layers_by_row(
    labels: Sequence[str],
    weights: Sequence[Sequence[float]],
    first_layer: int,
    *,
    row_height: float,
    width: float,
    **options: Any,
) -> tuple[Figure, Axes]:
    """Draws a heat map with a labeled row for each vector of layer weights, the first on top."""
    depth = len(weights[0])
    columns = [layer + first_layer - 0.5 for layer in range(depth + 1)]
    rows = [row - 0.5 for row in range(len(labels) + 1)]
    size = width, 1.5 + row_height * len(labels)
    figure, axes = heat_map(weights, columns, rows, size=size, depth=depth, **options)
    axes.invert_yaxis()
    axes.set_yticks(range(len(labels)), labels)
    style.layer_ticks(axes.xaxis, first_layer, depth)
    axes.set_xlabel("encoder layer")
    return figure, axes
