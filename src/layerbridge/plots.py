"""Pictures of result files: accuracy by language, and what weight each encoder layer gets.

Reads results, never models. Draws on figures of its own and leaves pyplot's state alone, so that a
notebook's settings and figures stay as they are. Colours are Okabe and Ito's, made for the
colour-blind, and every method has a marker of its own as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerbridge.errors import OutputError, ResultError
from layerbridge.results import CLASSIFIER, LanguageResult, Result
from layerbridge.tables import check_comparable, ordered_languages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_GREY, _PALE = "#666666", "#DDDDDD"
# Sizes for a picture 800 pixels wide, as on a README; text stays text in an SVG.
_STYLE = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "layerbridge",
    "savefig.dpi": 160,
}


def accuracy_by_language(results: Sequence[Result], path: str | Path) -> Path:
    """Draw each method's accuracy in each language with its 95 % interval, English apart.

    Languages are ordered by the mean accuracy of the methods. Baselines (protocol ``classifier``)
    are grey ticks, chance (one over the number of labels) a dotted line. A method with several
    results (seeds) is drawn as their mean, and its bar is then their range.

    Args:
        results: of one task, split and protocol, on the same rows.
        path: ends in .svg or .png.

    Returns:
        The path.

    Raises:
        ResultError: there are no results, or they cannot be compared.
        OutputError: the path has another ending or cannot be written.
    """
    results = list(results)
    path = _checked(path)
    check_comparable(results)
    methods = _by_method(result for result in results if result.protocol != CLASSIFIER)
    floors = _by_method(result for result in results if result.protocol == CLASSIFIER)
    codes = ordered_languages(results)
    drawn = [result for result in results if result.protocol != CLASSIFIER] or results

    def mean(code: str) -> float:
        found = [r.languages[code].accuracy for r in drawn if code in r.languages]
        return sum(found) / len(found) if found else 0.0

    others = sorted((code for code in codes if code != "en"), key=mean, reverse=True)
    order = (["en"] if "en" in codes else []) + others
    # English stands apart: the methods were trained on it.
    place = {
        code: i + (0.45 if code != "en" and "en" in codes else 0) for i, code in enumerate(order)
    }

    figure, axes = _figure(8.0, 1.35 + (0.17 + 0.07 * max(1, len(methods))) * (len(order) + 0.5))
    _languages_axis(axes, place, results[0].task, results[0].split)
    _chance_line(axes, results)
    for name, of_method in floors.items():
        shown = {code: _values(of_method, code) for code in order}
        ys = [place[code] for code in order if shown[code]]
        xs = [_mean(shown[code]) for code in order if shown[code]]
        axes.plot(xs, ys, ls="none", marker="|", ms=16, mew=2, color=_GREY, label=name)
    step = min(0.22, 0.7 / max(1, len(methods)))
    for number, (name, of_method) in enumerate(methods.items()):
        shift = (number - (len(methods) - 1) / 2) * step
        shifted = {code: y + shift for code, y in place.items()}
        _points(axes, of_method, shifted, name=_label(name, of_method), number=number)
    _legend(figure, axes, last=[*floors, "chance"])
    return _save(figure, path)


def layer_weights(results: Sequence[Result], path: str | Path) -> Path:
    """Draw the mean weight of each encoder layer.

    One result with several languages is a heat map, a row a language; several results, or one
    language, are a line each over the layers, the mean of the languages. The dotted line, and the
    mark on the colour scale, is where all layers weigh the same.

    Args:
        results: those without layer weights are passed over.
        path: ends in .svg or .png.

    Returns:
        The path.

    Raises:
        ResultError: no result has layer weights, or their numbers of layers differ.
        OutputError: the path has another ending or cannot be written.
    """
    path = _checked(path)
    weights = [(result, _weights(result)) for result in results]
    weights = [(result, of_result) for result, of_result in weights if of_result]
    if not weights:
        raise ResultError(
            "no result has layer weights",
            hint="evaluate a bridge whose fusion has them, such as global-softmax",
        )
    depths = {len(row): result for result, of_result in weights for row in of_result.values()}
    if len(depths) > 1:
        told = " and ".join(f"{depth} ({r.method})" for depth, r in sorted(depths.items()))
        raise ResultError(
            f"the results have different numbers of layers: {told}",
            allowed="results of one encoder",
        )
    (depth,) = depths
    if len(weights) == 1 and len(weights[0][1]) > 1:
        figure = _heat_map(*weights[0], depth)
    else:
        figure = _lines(weights, depth)
    return _save(figure, path)


def _points(
    axes: Axes, results: list[Result], place: dict[str, float], *, name: str, number: int
) -> None:
    ys, xs, below, above = [], [], [], []
    for code, y in place.items():
        entries = [result.languages[code] for result in results if code in result.languages]
        if not entries:
            continue
        middle = _mean([entry.accuracy for entry in entries])
        low, high = _bar(entries)
        ys.append(y)
        xs.append(100 * middle)
        # Wilson's interval holds the accuracy; the difference may still be -1e-17.
        below.append(max(0.0, 100 * (middle - low)))
        above.append(max(0.0, 100 * (high - middle)))
    axes.errorbar(
        xs,
        ys,
        xerr=[below, above],
        fmt=_marker(number),
        color=_COLOURS[number % len(_COLOURS)],
        ms=5.5,
        mec="white",
        mew=0.6,
        elinewidth=1.4,
        label=name,
        zorder=3,
    )


def _marker(number: int) -> str:
    # The eighth method has the first one's colour again, but not its marker.
    return _MARKERS[(number + number // len(_COLOURS)) % len(_MARKERS)]


def _bar(entries: list[LanguageResult]) -> tuple[float, float]:
    if len(entries) == 1:
        return entries[0].interval
    accuracies = [entry.accuracy for entry in entries]
    return min(accuracies), max(accuracies)


def _languages_axis(axes: Axes, place: dict[str, float], task: str, split: str) -> None:
    names = _language_names(place)
    axes.set_yticks(list(place.values()), [names[code] for code in place])
    axes.tick_params(axis="y", length=0)
    last = max(place.values())
    axes.set_ylim(last + 0.6, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"accuracy, % ({task}, {split} rows)")
    axes.grid(axis="x", color=_PALE, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    for y in list(place.values())[1::2]:
        axes.axhspan(y - 0.5, y + 0.5, color="#F5F5F5", zorder=0, lw=0)
    if "en" in place and len(place) > 1:
        axes.axhline(0.72, color=_GREY, lw=0.8)


def _chance_line(axes: Axes, results: Sequence[Result]) -> None:
    labels = {
        answer.label
        for result in results
        for entry in result.languages.values()
        for answer in entry.predictions
    }
    axes.axvline(100 / len(labels), color=_GREY, lw=1.2, ls=":", label="chance", zorder=1)


def _heat_map(result: Result, weights: dict[str, Sequence[float]], depth: int) -> Figure:
    codes = sorted(weights, key=lambda code: code != "en")
    rows = [list(weights[code]) for code in codes]
    names = _language_names(codes)
    figure, axes = _figure(8.0, 1.5 + 0.28 * len(codes))
    # Weights below zero do not occur in a softmax; a scale from 0 keeps pictures comparable.
    lowest, highest = min(0.0, *map(min, rows)), max(map(max, rows))
    image = axes.imshow(rows, aspect="auto", cmap="cividis", vmin=lowest, vmax=highest)
    axes.set_yticks(range(len(codes)), [names[code] for code in codes])
    _layers_axis(axes, depth, first=0)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    # White gaps between the cells, the wider one under English.
    axes.hlines([i - 0.5 for i in range(1, len(codes))], -0.5, depth - 0.5, colors="white", lw=0.8)
    axes.vlines([i - 0.5 for i in range(1, depth)], -0.5, len(codes) - 0.5, colors="white", lw=0.8)
    if codes[0] == "en":
        axes.hlines([0.5], -0.5, depth - 0.5, colors="white", lw=5)
    axes.set_title(f"{result.method} ({result.task})", loc="left", fontsize=11)
    bar = figure.colorbar(image, ax=axes, pad=0.015, fraction=0.04)
    bar.outline.set_visible(False)
    bar.set_label("mean weight")
    bar.ax.axhline(1 / depth, color="white", lw=1.5, ls=":")
    return figure


def _lines(weights: list[tuple[Result, dict[str, Sequence[float]]]], depth: int) -> Figure:
    figure, axes = _figure(8.0, 3.9)
    layers = range(1, depth + 1)
    repeated = len({result.method for result, _ in weights}) < len(weights)
    axes.axhline(1 / depth, color=_GREY, lw=1.2, ls=":", label="all layers alike")
    for number, (result, of_result) in enumerate(weights):
        means = [_mean([row[layer] for row in of_result.values()]) for layer in range(depth)]
        axes.plot(
            layers,
            means,
            color=_COLOURS[number % len(_COLOURS)],
            marker=_marker(number),
            ms=5.5,
            mec="white",
            mew=0.6,
            lw=1.6,
            label=f"{result.method}, seed {result.seed}" if repeated else result.method,
        )
    _layers_axis(axes, depth, first=1)
    axes.set_ylim(bottom=min(-0.02 * axes.get_ylim()[1], axes.dataLim.y0))
    axes.set_ylabel("mean weight")
    axes.grid(axis="y", color=_PALE, lw=0.7)
    axes.set_axisbelow(True)
    _legend(figure, axes, last=["all layers alike"])
    return figure


def _layers_axis(axes: Axes, depth: int, first: int) -> None:
    every = max(1, round(depth / 12))
    shown = [layer for layer in range(1, depth + 1) if layer % every == 0 or layer == 1]
    axes.set_xticks([layer - 1 + first for layer in shown], [str(layer) for layer in shown])
    axes.set_xlabel("encoder layer")


def _weights(result: Result) -> dict[str, Sequence[float]]:
    return {
        code: entry.layer_weights
        for code, entry in result.languages.items()
        if entry.layer_weights is not None
    }


def _by_method(results: Any) -> dict[str, list[Result]]:
    methods: dict[str, list[Result]] = {}
    for result in results:
        methods.setdefault(result.method, []).append(result)
    return methods


def _values(results: list[Result], code: str) -> list[float]:
    return [100 * r.languages[code].accuracy for r in results if code in r.languages]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _label(name: str, results: list[Result]) -> str:
    return name if len(results) == 1 else f"{name} (mean and range of {len(results)} runs)"


def _language_names(codes: Any) -> dict[str, str]:
    """English names by code; a code that the CLDR does not know names itself."""
    from babel import Locale

    names = Locale("en").languages
    return {code: names.get(code.replace("-", "_"), code) for code in codes}


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        return figure, figure.subplots()


def _legend(figure: Figure, axes: Axes, last: list[str]) -> None:
    handles, labels = axes.get_legend_handles_labels()
    # Methods first, then what they are to be read against.
    pairs = sorted(
        zip(labels, handles, strict=True),
        key=lambda pair: last.index(pair[0]) if pair[0] in last else -1,
    )
    figure.legend(
        [handle for _, handle in pairs],
        [label for label, _ in pairs],
        loc="outside upper left",
        ncols=3,
        frameon=False,
        handletextpad=0.5,
        columnspacing=1.4,
    )


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"a picture cannot be written to {path}", allowed=f"{', '.join(SUFFIXES)}"
        )
    return path


def _save(figure: Figure, path: Path) -> Path:
    import matplotlib

    # Without a date in it, the same results make the same file.
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(_STYLE):
            figure.savefig(path, metadata=metadata)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error})", hint="choose another folder"
        ) from None
    return path
