"""What all pictures share: colours, sizes, empty figures, legends.

Knows nothing of results. Figures are matplotlib's own objects; pyplot's state is left alone, so
that a notebook's settings and figures stay as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches: a README's 800 pixels, and a telephone.
WIDE, NARROW = 8.0, 4.0

# Okabe and Ito's, made for the colour-blind; every method has a marker of its own as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")

# A page that shows a figure in the dark has other values for these (``output.svg``).
INK, GREY, PALE, BAND, PAPER = "#1F2328", "#666666", "#DDDDDD", "#F5F5F5", "#FFFFFF"

_LONGEST = 60
# Inches: a legend's line or mark with its gaps, and a letter of usual width.
_KEY, _LETTER = 0.6, 0.075
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

_SETTINGS = {
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": INK,
    # A method may be called "$x_1$"; nothing here is set as mathematics.
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    # Text stays text in an SVG, and the same picture has the same ids.
    "svg.fonttype": "none",
    "svg.hashsalt": "layerbridge",
    "savefig.dpi": 160,
}


def settings() -> AbstractContextManager[None]:
    """matplotlib with this file's settings, for as long as a picture is drawn or written."""
    import matplotlib

    return matplotlib.rc_context(_SETTINGS)


def figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of so many inches, with one pair of axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(made)
    return made, made.subplots()


def colour(number: int) -> str:
    """Of the method of that number; the eighth has the first one's again."""
    return COLOURS[number % len(COLOURS)]


def marker(number: int) -> str:
    """Of the method of that number; the eighth has the first one's colour, but not its marker."""
    return MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def clean(text: str) -> str:
    """Text without what no file may hold: control characters, halves of surrogate pairs."""
    return _UNWRITABLE.sub("\ufffd", text)


def words(text: str, longest: int = _LONGEST) -> str:
    """Text from a file as a picture can hold it: of a few words, without control characters."""
    text = " ".join(clean(text).split())
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    # matplotlib leaves a name that starts like this out of the legend.
    return f"\u200b{text}" if text.startswith("_") else text


def legend(made: Figure, axes: Axes, last: Sequence[str] = ()) -> None:
    """A legend over the axes: methods first, then ``last``, what they are to be read against."""
    handles, labels = axes.get_legend_handles_labels()
    pairs = sorted(
        zip(labels, handles, strict=True),
        key=lambda pair: last.index(pair[0]) if pair[0] in last else -1,
    )
    room = int((made.get_figwidth() - _KEY) / _LETTER)
    names = [label if len(label) <= room else f"{label[: room - 1]}…" for label, _ in pairs]
    made.legend(
        [handle for _, handle in pairs],
        names,
        loc="outside upper left",
        ncols=_columns(names, made.get_figwidth()),
        frameon=False,
        handletextpad=0.5,
        columnspacing=1.4,
    )


def _columns(names: Sequence[str], width: float) -> int:
    """How many columns of a legend fit, filled from the top as matplotlib fills them; 3 at most."""
    for columns in (3, 2):
        rows = math.ceil(len(names) / columns)
        parts = [names[start : start + rows] for start in range(0, len(names), rows)]
        if sum(_KEY + _LETTER * max(map(len, part)) for part in parts) <= width:
            return columns
    return 1


def rows(axes: Axes, place: Mapping[str, float], labels: Mapping[str, str]) -> None:
    """A row at each place, with its label, and a grid of upright lines behind all."""
    longest = 36 if _is_wide(axes) else 26
    axes.set_yticks(list(place.values()), [words(labels[key], longest) for key in place])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=PALE, lw=0.7)
    axes.set_axisbelow(True)
    bare(axes, ["left"])


def bars(
    axes: Axes, points: Sequence[tuple[float, float, float, float]], *, number: int, label: str
) -> None:
    """Marks of one method with their intervals: place, middle, low, high of each."""
    axes.errorbar(
        [middle for _, middle, _, _ in points],
        [y for y, _, _, _ in points],
        # An interval holds its middle; the difference may still be -1e-17.
        xerr=[
            [max(0.0, middle - low) for _, middle, low, _ in points],
            [max(0.0, high - middle) for _, middle, _, high in points],
        ],
        fmt=marker(number),
        color=colour(number),
        ms=5.5,
        mec=PAPER,
        mew=0.6,
        elinewidth=1.4,
        label=label,
        zorder=3,
    )


def bare(axes: Axes, sides: Iterable[str] = ("left", "bottom", "top", "right")) -> None:
    """Axes without lines on these sides."""
    for side in sides:
        axes.spines[side].set_visible(False)


def gaps(axes: Axes, rows: int, columns: int) -> None:
    """Narrow gaps between the cells of a heat map."""
    axes.hlines([i - 0.5 for i in range(1, rows)], -0.5, columns - 0.5, colors=PAPER, lw=0.8)
    axes.vlines([i - 0.5 for i in range(1, columns)], -0.5, rows - 0.5, colors=PAPER, lw=0.8)


def layer_ticks(axis: Any, depth: int, *, first: float, first_layer: int = 1) -> None:
    """Ticks for ``depth`` layers, the lowest at ``first``, and no more than there is room for."""
    room = 12 if _is_wide(axis) else 6
    every = max(1, round(depth / room))
    layers = range(first_layer, depth + first_layer)
    shown = [layer for layer in layers if layer % every == 0 or layer == first_layer]
    places = [layer - first_layer + first for layer in shown]
    axis.set_ticks(places, labels=[str(layer) for layer in shown])


def _is_wide(artist: Any) -> bool:
    return artist.get_figure(root=True).get_figwidth() > NARROW + 1


def mean(values: Sequence[float]) -> float:
    """Of one number or more."""
    return sum(values) / len(values)
