"""A heat map of layer weights in a terminal: one row per token, one column per layer.

The numbers say what the colors say, so it can be read without color.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerbridge.report.plots.style import clean
from layerbridge.report.tokens import TokenCell, TokenMap

if TYPE_CHECKING:
    from rich.text import Text

    from layerbridge.models.inference import LayerWeights

_PERCENT_WIDTH = 3
_MAX_TOKEN_WIDTH = 20
_ZERO = "·"
_TEN = "X"


def heat_map(weights: LayerWeights, width: int) -> Text:
    """Returns the layer weights of one text as colored text.

    Args:
        weights: as ``bridge.layer_weights`` returns them.
        width: of the terminal; if percentages do not fit, single digits are tenths.
    """
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    token_map = TokenMap.of("", weights)
    tokens = [" ".join(clean(token).split()) or "space" for token, _ in token_map.rows]
    token_width = min(_MAX_TOKEN_WIDTH, max(map(cell_len, tokens)))
    wide = token_width + 1 + _PERCENT_WIDTH * len(token_map.layers) <= width
    text = Text(no_wrap=True)
    for line in _header(token_map.layers, wide):
        text.append(f"{' ' * token_width} {line}\n")
    for token, (_, cells) in zip(tokens, token_map.rows, strict=True):
        text.append(f"{set_cell_size(token, token_width)} ")
        for cell in cells:
            ink = "white" if cell.dark else "black"
            text.append(_number(cell, wide), style=f"{ink} on {cell.color}")
        text.append("\n")
    unit = "percent" if wide else f"tenths ({_TEN} is ten)"
    text.append(f"rows: tokens; columns: encoder layers; {unit}, {_ZERO} is less than a half")
    return text


def _header(layers: range, wide: bool) -> list[str]:
    if wide:
        return ["".join(f"{layer:>{_PERCENT_WIDTH}}" for layer in layers)]
    # A column is one digit wide, so the digits of a number stand one above the other.
    columns = [f"{layer:>{len(str(layers[-1]))}}" for layer in layers]
    return ["".join(line) for line in zip(*columns, strict=True)]


def _number(cell: TokenCell, wide: bool) -> str:
    if wide:
        return f"{_ZERO if cell.percent == '0' else cell.percent:>{_PERCENT_WIDTH}}"
    tenths = round(int(cell.percent) / 10)
    return _ZERO if not tenths else str(tenths) if tenths < 10 else _TEN
