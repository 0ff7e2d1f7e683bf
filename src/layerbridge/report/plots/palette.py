"""Which color and marker a method has: the same in every figure and report."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from layerbridge.evaluation.method_names import distinguish
from layerbridge.evaluation.results import CLASSIFIER, Result
from layerbridge.report.plots.style import COLORS

# The paper's methods and ours keep theirs whatever they are drawn with.
_KNOWN = (
    *("last", "token-softmax", "global-softmax", "uniform", "fixed", "scalar-mix"),
    *("fine-grained", "attention", "dwatt"),
)


def palette_of(results: Iterable[Result]) -> dict[str, int]:
    """Returns the index of each method's color and marker, for ``style.marks``.

    Other methods, in alphabetical order, bridges before baselines, have those that are left.
    """
    kinds = {
        result.method: (result.protocol == CLASSIFIER, "bridge" not in result.settings)
        for result in distinguish([*results])
    }
    palette = {method: _KNOWN.index(method) for method in kinds if method in _KNOWN}
    used = {index % len(COLORS) for index in palette.values()}
    # Colors that are not in use come first; then they repeat, with other markers.
    free = (i for i in count() if i not in palette.values() and (i >= len(COLORS) or i not in used))
    others = sorted(kinds.keys() - palette.keys(), key=lambda method: (kinds[method], method))
    return palette | dict(zip(others, free, strict=False))
