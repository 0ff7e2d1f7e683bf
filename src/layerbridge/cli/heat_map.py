"""A heat map in a terminal: a row a token, a column a layer.

Numbers say what the colours say, so it can be read without any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerbridge.report.plots.style import clean
from layerbridge.report.tokens import TokenCell, TokenMap

if TYPE_CHECKING:
    from rich.text import Text

    from layerbridge.models.inference import LayerWeights

_WIDE = 3  # cells of a percentage
_LONGEST = 20  # cells of a token
_NONE = "·"
_ALL = "X"


def heat_map(weights: LayerWeights, width: int) -> Text:
    """The weights of one text.

    Args:
        weights: as ``bridge.layer_weights`` gives them.
        width: of the terminal. Where percentages have no room there are tenths, of one digit.
    """
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    found = TokenMap.of("", weights)
    tokens = [" ".join(clean(token).split()) or "space" for token, _ in found.rows]
    longest = min(_LONGEST, max(map(cell_len, tokens)))
    wide = longest + 1 + _WIDE * len(found.layers) <= width
    drawn = Text(no_wrap=True)
    for line in _header(found.layers, wide):
        drawn.append(f"{' ' * longest} {line}\n")
    for token, (_, cells) in zip(tokens, found.rows, strict=True):
        drawn.append(f"{set_cell_size(token, longest)} ")
        for cell in cells:
            ink = "white" if cell.dark else "black"
            drawn.append(_figure(cell, wide), style=f"{ink} on {cell.color}")
        drawn.append("\n")
    unit = "per cent" if wide else f"tenths ({_ALL} for ten)"
    drawn.append(f"rows are tokens, columns encoder layers; {unit}, {_NONE} for less than a half")
    return drawn


def _header(layers: range, wide: bool) -> list[str]:
    if wide:
        return ["".join(f"{layer:>{_WIDE}}" for layer in layers)]
    # One digit has room, so the others stand above it.
    columns = [f"{layer:>{len(str(layers[-1]))}}" for layer in layers]
    return ["".join(line) for line in zip(*columns, strict=True)]


def _figure(cell: TokenCell, wide: bool) -> str:
    if wide:
        return f"{_NONE if cell.percent == '0' else cell.percent:>{_WIDE}}"
    tenths = round(int(cell.percent) / 10)
    return _NONE if not tenths else str(tenths) if tenths < 10 else _ALL
