"""What a report says: the variables of the template ``report.html``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from layerbridge.evaluation.comparison import compare
from layerbridge.evaluation.method_names import distinguish
from layerbridge.evaluation.results import CLASSIFIER, Result, check_codes
from layerbridge.report import drawings
from layerbridge.report.layer_weights import by_method
from layerbridge.report.plots.accuracy import accuracy_by_language, chance_level
from layerbridge.report.plots.gains import encoder_of
from layerbridge.report.plots.palette import palette_of
from layerbridge.report.plots.training import layer_weights_in_training
from layerbridge.report.run_folders import RunFolder
from layerbridge.report.tables.accuracies import accuracy_table
from layerbridge.report.tables.macro_f1 import macro_f1_table, unbalanced
from layerbridge.report.tokens import TokenMap
from layerbridge.tasks.languages import corpus_of, names, script

if TYPE_CHECKING:
    from layerbridge.models.inference import LayerWeights

_ABSENT = "–"


def gather(
    results: Sequence[Result],
    folders: Sequence[RunFolder] = (),
    *,
    against: str = "last",
    title: str | None = None,
    sentences: Sequence[tuple[str, LayerWeights]] = (),
) -> dict[str, Any]:
    """Compares the results, draws the figures and returns the variables of the template.

    Args:
        results: of one task, split and protocol, on the same rows.
        folders: of the runs.
        against: the method to compare with; nothing is compared if no result is of it.
        title: of the page; None names the task and counts methods and languages.
        sentences: titles and weights of texts to show token by token.

    Raises:
        ResultError: there are no results, they cannot be compared, or a language code is not
            printable.
    """
    for result in results:
        check_codes(result)
    results = sorted(distinguish(results), key=lambda result: _rank(result, against))
    methods = by_method(results)
    comparisons = compare(results, against) if against in methods and len(methods) > 1 else []
    palette = palette_of(results)
    table = accuracy_table(results, comparisons=comparisons)
    weights = drawings.draw_weights(results, palette)
    return {
        "title": title,
        "results": results,
        "row_counts": [entry.n for result in results for entry in result.languages.values()],
        "chance": chance_level(results),
        "table": table,
        "macro_f1": macro_f1_table(results) if unbalanced(results) else None,
        "by_seed": accuracy_table(results, by_seed=True),
        "names": names(table.languages),
        "scripts": {code: script(code) for code in table.languages},
        "seeds": {name: len({run.seed for run in runs}) for name, runs in methods.items()},
        "baselines": {run.method for run in results if run.protocol == CLASSIFIER},
        "against": against,
        "comparisons": comparisons,
        "palette": palette,
        "accuracy": drawings.draw(
            "accuracy-by-language", accuracy_by_language, results, palette=palette
        ),
        "gains": drawings.draw_gains(results, comparisons, against, palette),
        "weights": weights,
        "heaviest": [*_heaviest(weights)],
        "training": [*_training(folders)],
        "token_maps": [TokenMap.of(text, weights) for text, weights in sentences],
        "corpus": corpus_of(encoder_of(results)),
        "settings": {name: joined(map(_flat, runs)) for name, runs in methods.items()},
        "folders": folders,
        "versions": joined(result.versions for result in results),
        "created": sorted(result.created for result in results),
        "now": datetime.now(UTC).isoformat(timespec="minutes"),
    }


def joined(mappings: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Returns one mapping of several; different values of a key are joined with commas."""
    mappings = list(mappings)
    keys = dict.fromkeys(key for mapping in mappings for key in mapping)
    return {
        key: ", ".join(dict.fromkeys(_text(mapping.get(key, _ABSENT)) for mapping in mappings))
        for key in keys
    }


def _rank(result: Result, against: str) -> tuple[bool, bool, bool]:
    """Sorts baselines first, then what else is not a bridge, the reference, and the rest."""
    bridge = "bridge" in result.settings
    return result.protocol != CLASSIFIER, bridge, bridge and result.method != against


def _training(folders: Sequence[RunFolder]) -> Iterator[tuple[RunFolder, drawings.Drawing]]:
    for number, run in enumerate(folders):
        if run.weights:
            plot, name = layer_weights_in_training, f"training-{number}"
            yield run, drawings.draw(name, plot, run.weights, title=run.name)


def _heaviest(weights: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for encoder in weights:
        for method, means in encoder["means"].items():
            largest = max(means)
            # A weight of 1 was not learned, and uniform weights have no largest one.
            if largest - min(means) > 1e-6 and largest < 1:
                layers = encoder["layers"]
                layer = layers[means.index(largest)]
                yield f"{method} {layer} of {layers[-1]} ({largest:.2f})"


def _flat(result: Result) -> dict[str, Any]:
    """The settings of a result, one level deep: ``bridge.fusion`` of its ``bridge``."""
    flat = {"protocol": result.protocol, "seed": result.seed, "run": result.run or _ABSENT}
    for key, value in result.settings.items():
        if key == "command":  # among those that make it again
            continue
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return flat


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)
