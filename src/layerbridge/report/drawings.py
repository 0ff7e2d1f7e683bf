"""The figures of a report, each drawn for a wide page and for a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from layerbridge.evaluation.comparison import Comparison
from layerbridge.evaluation.results import Result
from layerbridge.report.layer_weights import (
    by_method,
    column_means,
    layers_of,
    mean_weights,
    weights_of,
)
from layerbridge.report.plots import style
from layerbridge.report.plots.gains import encoder_of, gain_by_language, same_kind
from layerbridge.report.plots.languages import layer_weights_by_language
from layerbridge.report.plots.layers import layer_weights_by_layer
from layerbridge.report.plots.output import Plot, svg
from layerbridge.tasks.languages import corpus_of

# Weights that differ by less between languages do not depend on the text.
_TOLERANCE = 1e-4


class Drawing(NamedTuple):
    """The id of a figure, and its ``<svg>`` elements for a wide page and for a phone."""

    id: str
    wide: str
    narrow: str


def draw(id_: str, plot: Plot, data: Any, **options: Any) -> Drawing:
    """Draws a figure in both widths."""
    wide, narrow = (
        svg(plot.figure(data, width=width, **options), f"{id_}-{kind}")
        for kind, width in (("wide", style.WIDE), ("narrow", style.NARROW))
    )
    return Drawing(id_, wide, narrow)


def draw_gains(
    results: Sequence[Result],
    comparisons: Sequence[Comparison],
    against: str,
    palette: Mapping[str, int],
) -> dict[str, Drawing]:
    """Draws gains by script, and by share of the encoder's pretraining data if that is known."""
    if not same_kind(comparisons, results):
        return {}
    groupings = ["script", "share"] if corpus_of(encoder_of(results)) else ["script"]
    options = {"against": against, "palette": palette, "comparisons": comparisons}
    return {
        by: draw(f"gain-by-{by}", gain_by_language, results, by=by, **options) for by in groupings
    }


def draw_weights(results: Sequence[Result], palette: Mapping[str, int]) -> list[dict[str, Any]]:
    """Draws layer weights, for each set of layers that the encoders have.

    Returns:
        ``layers`` (their numbers), ``means`` (mean weights of each method), ``by_layer`` (a drawing
        of them) and ``by_language`` (drawings of the methods whose weights depend on the text).
    """
    by_layers: dict[range, list[Result]] = {}
    for result in results:
        if weights_of(result):
            by_layers.setdefault(layers_of([result]), []).append(result)
    return [
        {
            "layers": layers,
            "means": {
                method: column_means([mean_weights(result) for result in runs])
                for method, runs in by_method(weighted).items()
            },
            "by_layer": draw(_id(layers), layer_weights_by_layer, weighted, palette=palette),
            "by_language": {
                method: draw(f"{_id(layers)}-{number}", layer_weights_by_language, runs)
                for number, (method, runs) in enumerate(by_method(weighted).items())
                if any(map(_depends_on_text, runs))
            },
        }
        for layers, weighted in by_layers.items()
    ]


def _id(layers: range) -> str:
    """The id of a figure of weights: ``layer-weights-12``, or ``layer-weights-0-12``."""
    return f"layer-weights-{layers[-1]}" if layers.start else f"layer-weights-0-{layers[-1]}"


def _depends_on_text(result: Result) -> bool:
    columns = zip(*weights_of(result).values(), strict=True)
    return any(max(column) - min(column) > _TOLERANCE for column in columns)
