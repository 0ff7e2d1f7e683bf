"""Methods against each other, from result files alone.

    comparable   which results may stand side by side at all
    methods      several seeds of a method are one method
    effects      every method against one of them: effects, intervals, p-values

Knows results; the computing is in ``statistics``.
"""

from layerbridge.evaluation.comparison.comparable import (
    averaged_languages,
    check_comparable,
    ordered_languages,
)
from layerbridge.evaluation.comparison.effects import (
    ALPHA,
    AverageEffect,
    Comparison,
    LanguageEffect,
    Mark,
    compare,
)
from layerbridge.evaluation.comparison.methods import Method, methods, repeated_seed

__all__ = [
    "ALPHA",
    "AverageEffect",
    "Comparison",
    "LanguageEffect",
    "Mark",
    "Method",
    "averaged_languages",
    "check_comparable",
    "compare",
    "methods",
    "ordered_languages",
    "repeated_seed",
]
