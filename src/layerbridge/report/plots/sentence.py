"""One text: where each of its tokens drew on the encoder, a row a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerbridge.progress import say
from layerbridge.report.plots import fonts, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from layerbridge.models.inference import LayerWeights


def figure(weights: LayerWeights, *, title: str = "", width: float = style.WIDE) -> Figure:
    """A heat map of a text's tokens and the encoder's layers.

    Letters are drawn with whichever installed fonts have them. A token with letters that no font
    has is written as code points, and stderr says so.

    Args:
        weights: of one text, as ``bridge.layer_weights`` gives them.
        title: over the picture.
        width: in inches.
    """
    from matplotlib import rc_context
    from matplotlib.colors import PowerNorm

    tokens = [style.words(token) for token in weights.tokens]
    families, missing = fonts.covering(fonts.needed([*tokens, title]))
    if missing:
        say(
            f"no installed font has {fonts.readable(sorted(missing), missing)[0]}"
            + (f" and {len(missing) - 1} other characters" if len(missing) > 1 else "")
            + ": code points are written instead; with --format html the browser's fonts are used"
        )
    values = weights.weights.tolist()
    depth = len(values[0])
    with style.settings(), rc_context({"font.family": families}):
        made, axes = style.figure(width, 1.5 + 0.25 * len(tokens))
        image = axes.imshow(
            values,
            aspect="auto",
            cmap="cividis",
            # By the square root: one layer often has most of the weight.
            norm=PowerNorm(0.5, vmin=0.0, vmax=max(map(max, values))),
            interpolation="none",
        )
        axes.set_yticks(range(len(tokens)), fonts.readable(tokens, missing))
        style.layer_ticks(axes.xaxis, depth, first=0, first_layer=weights.first_layer)
        axes.set_xlabel("encoder layer")
        axes.tick_params(length=0)
        style.bare(axes)
        style.gaps(axes, len(tokens), depth)
        if title:
            (shown,) = fonts.readable([style.words(title)], missing)
            axes.set_title(shown, loc="left", fontsize=11)
        bar = made.colorbar(image, ax=axes, pad=0.015, fraction=0.04)
        bar.outline.set_visible(False)
        bar.set_label("weight")
    return made
