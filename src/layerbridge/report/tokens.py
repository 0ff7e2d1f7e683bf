"""A text's tokens and the layers they drew on, as the cells of an HTML table.

A table and no picture: the browser's fonts have every script, and a reader can select the words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerbridge.models.inference import LayerWeights


@dataclass(frozen=True)
class TokenCell:
    """One token's weight on one layer.

    Attributes:
        percent: the weight.
        colour: of the cell, ``#RRGGBB``.
        dark: whether that colour is a dark one.
    """

    percent: str
    colour: str
    dark: bool


@dataclass(frozen=True)
class TokenMap:
    """The cells of one text.

    Attributes:
        title: over the table.
        layers: their numbers.
        rows: token and its cells, the lowest layer first.
    """

    title: str
    layers: range
    rows: tuple[tuple[str, tuple[TokenCell, ...]], ...]

    @classmethod
    def of(cls, title: str, weights: LayerWeights) -> TokenMap:
        """The cells for the weights of one text."""
        rows = weights.weights.tolist()
        return cls.of_numbers(title, weights.tokens, rows, first_layer=weights.first_layer)

    @classmethod
    def of_numbers(
        cls,
        title: str,
        tokens: Sequence[str],
        rows: Sequence[Sequence[float]],
        *,
        first_layer: int = 1,
    ) -> TokenMap:
        """The same for plain numbers: a row a token, the layer of number ``lowest`` first."""
        highest = max(max(row) for row in rows)
        cells = tuple(
            (token, tuple(_cell(weight, highest) for weight in row))
            for token, row in zip(tokens, rows, strict=True)
        )
        return cls(title, range(first_layer, len(rows[0]) + first_layer), cells)


def _cell(weight: float, highest: float) -> TokenCell:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    # By the square root, as the pictures of training and of sentences have it.
    colour = colormaps["cividis"](math.sqrt(max(0.0, weight) / (highest or 1.0)))
    red, green, blue, _ = colour
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return TokenCell(f"{100 * weight:.0f}", to_hex(colour), light < 0.45)
