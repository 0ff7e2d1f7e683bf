"""The layer weights of one text, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerbridge.progress import say
from layerbridge.report.plots import fonts, style
from layerbridge.report.plots.heat_map import layers_by_row
from layerbridge.report.plots.output import Plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from layerbridge.models.inference import LayerWeights


@Plot
def sentence_weights(
    weights: LayerWeights, *, title: str = "", width: float = style.WIDE
) -> Figure:
    """Draws a text's layer weights as a heat map, a row per token.

    Any installed font that has the letters is used. A token with letters that no font has is
    written as code points, and stderr says so.

    Args:
        weights: of one text, as ``bridge.layer_weights`` returns them.
        title: above the figure.
        width: in inches.
    """
    from matplotlib import rcParams

    tokens = [style.label(token) for token in weights.tokens]
    title = style.label(title)
    # For the figure's own settings: ``Plot`` restores the caller's.
    rcParams["font.family"], missing = fonts.covering([*tokens, title])
    if missing:
        first = fonts.readable(min(missing), missing)
        others = f" and {len(missing) - 1} other characters" if len(missing) > 1 else ""
        say(
            f"no installed font has {first}{others}: code points are written instead; "
            "--format html uses the browser's fonts"
        )
    figure, _ = layers_by_row(
        [fonts.readable(token, missing) for token in tokens],
        weights.weights.tolist(),
        weights.first_layer,
        row_height=0.25,
        width=width,
        # One layer often has most of the weight.
        gamma=0.5,
        title=fonts.readable(title, missing),
        unit="weight",
    )
    return figure
