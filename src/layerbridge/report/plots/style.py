"""What all figures share: colors, sizes, axes, legends.

Leaves the state of pyplot alone, so that the settings and figures of a notebook stay as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Widths in inches: 800 pixels in a README, and a phone.
WIDE, NARROW = 8.0, 4.0

# The palette of Okabe and Ito, which is safe for color-blind readers.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
# A page replaces these in dark mode (``output.svg``).
INK, GREY, PALE, BAND, PAPER = "#1F2328", "#666666", "#DDDDDD", "#F5F5F5", "#FFFFFF"

_MAX_LABEL = 60
# Inches: the key of a legend entry with its gaps, and an average letter.
_KEY, _LETTER = 0.6, 0.075
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

_SETTINGS = {
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": INK,
    # A method may be called "$x_1$".
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "savefig.dpi": 160,
}


def settings(salt: str = "layerbridge") -> AbstractContextManager[None]:
    """Returns a context with the settings for drawing and writing; SVG ids depend on the salt."""
    import matplotlib

    return matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": salt})


def figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Returns an empty figure of this size in inches, and its axes."""
    from matplotlib.figure import Figure

    empty = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    return empty, empty.subplots()


def color(index: int) -> str:
    """Returns the color of a method; colors repeat after seven methods."""
    return COLORS[index % len(COLORS)]


def marker(index: int) -> str:
    """Returns the marker of a method; methods of equal color have different markers."""
    return MARKERS[(index + index // len(COLORS)) % len(MARKERS)]


def marks(index: int) -> dict[str, Any]:
    """Returns the line properties of a method's marks."""
    return {"color": color(index), "marker": marker(index), "ms": 5.5, "mec": PAPER, "mew": 0.6}


def clean(text: str) -> str:
    """Replaces control characters and unpaired surrogates, which no file may hold."""
    return _UNPRINTABLE.sub("\ufffd", text)


def label(text: str, max_length: int = _MAX_LABEL) -> str:
    """Returns text from a file as a label: one line, printable, shortened."""
    text = " ".join(clean(text).split())
    text = text if len(text) <= max_length else f"{text[: max_length - 1]}…"
    # matplotlib leaves labels with a leading underscore out of the legend.
    return f"\u200b{text}" if text.startswith("_") else text


def legend(axes: Axes, last: Sequence[str] = ()) -> None:
    """Adds a legend above the axes: methods first, then the entries named by ``last``."""
    parent: Any = axes.get_figure(root=True)
    handles, labels = axes.get_legend_handles_labels()
    pairs = sorted(
        zip(labels, handles, strict=True),
        key=lambda pair: last.index(pair[0]) if pair[0] in last else -1,
    )
    room = int((parent.get_figwidth() - _KEY) / _LETTER)
    names = [name if len(name) <= room else f"{name[: room - 1]}…" for name, _ in pairs]
    parent.legend(
        [handle for _, handle in pairs],
        names,
        loc="outside upper left",
        ncols=_columns(names, parent.get_figwidth()),
        frameon=False,
        handletextpad=0.5,
        columnspacing=1.4,
    )


def _columns(names: Sequence[str], width: float) -> int:
    """The number of legend columns that fit, at most 3; matplotlib fills columns from the top."""
    for columns in (3, 2):
        rows = math.ceil(len(names) / columns)
        parts = [names[start : start + rows] for start in range(0, len(names), rows)]
        if sum(_KEY + _LETTER * max(map(len, part)) for part in parts) <= width:
            return columns
    return 1


def rows(axes: Axes, positions: Mapping[str, float], labels: Mapping[str, str]) -> None:
    """Labels the rows at these positions, and draws vertical grid lines behind them."""
    max_length = 36 if _is_wide(axes) else 26
    axes.set_yticks([*positions.values()], [label(labels[key], max_length) for key in positions])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=PALE, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)


def offsets(count: int) -> list[float]:
    """Returns vertical offsets that set this many methods apart within a row of height 1."""
    step = min(0.22, 0.7 / max(1, count))
    return [(index - (count - 1) / 2) * step for index in range(count)]


def error_bars(
    axes: Axes, points: Sequence[tuple[float, float, float, float]], *, index: int, label: str
) -> None:
    """Draws the points of a method: vertical position, value, and ends of the interval of each."""
    axes.errorbar(
        [value for _, value, _, _ in points],
        [y for y, _, _, _ in points],
        # Rounding may put a value 1e-17 outside its interval.
        xerr=[
            [max(0.0, value - low) for _, value, low, _ in points],
            [max(0.0, high - value) for _, value, _, high in points],
        ],
        ls="none",
        elinewidth=1.4,
        label=label,
        zorder=3,
        **marks(index),
    )


def layer_ticks(axis: Any, first_layer: int, depth: int) -> None:
    """Sets as many layer numbers as there is room for."""
    step = max(1, round(depth / (12 if _is_wide(axis) else 6)))
    layers = range(first_layer, depth + first_layer)
    axis.set_ticks([layer for layer in layers if layer % step == 0 or layer == first_layer])


def _is_wide(artist: Any) -> bool:
    return artist.get_figure(root=True).get_figwidth() > NARROW + 1
