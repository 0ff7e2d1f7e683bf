"""Token maps: the layer weights of a text, as colored cells for HTML and the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from layerbridge.models.inference import LayerWeights


class TokenCell(NamedTuple):
    """The weight of one layer for one token, and the color of its cell, ``#RRGGBB``."""

    percent: str
    color: str
    dark: bool


class TokenMap(NamedTuple):
    """The layer weights of one text: each token with its cells, the first layer first."""

    title: str
    layers: range
    rows: Sequence[tuple[str, Sequence[TokenCell]]]

    @classmethod
    def of(cls, title: str, weights: LayerWeights) -> TokenMap:
        """Returns the map of a text, from what ``bridge.layer_weights`` returns for it."""
        rows = weights.weights.tolist()
        largest = max(map(max, rows))
        cells = [[_cell(weight, largest) for weight in row] for row in rows]
        layers = range(weights.first_layer, weights.first_layer + len(rows[0]))
        return cls(title, layers, [*zip(weights.tokens, cells, strict=True)])


def _cell(weight: float, largest: float) -> TokenCell:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    from layerbridge.report.plots.heat_map import COLOR_MAP

    # By the square root, as in the figures: one layer often has most of the weight.
    color = colormaps[COLOR_MAP](math.sqrt(max(0.0, weight) / (largest or 1.0)))
    red, green, blue, _ = color
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return TokenCell(f"{100 * weight:.0f}", to_hex(color), luminance < 0.45)
