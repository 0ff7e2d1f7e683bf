"""Intervals for the accuracies of one run: what a test set of this size can say.

Every interval here is about the rows: another draw of test rows of the same language. None of them
covers another training seed; ``seeds`` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from layerbridge.errors import ConfigError, ResultError


def wilson(correct: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion.

    Unlike the textbook interval it stays within 0 and 1 and keeps its coverage for small n and for
    accuracies near 0 or 1 (E. B. Wilson, JASA 1927; Newcombe, Statistics in Medicine 1998).

    Args:
        correct: right answers, 0 to n.
        n: rows, 1 or more.
        level: confidence level, between 0 and 1.

    Returns:
        The lower and the upper end, as proportions.

    Raises:
        ResultError: the counts do not make a proportion.
        ConfigError: the level is out of range.
    """
    if not 0 <= correct <= n or n < 1:
        raise ResultError(
            f"{correct} right of {n} rows is no proportion", allowed="0 <= right <= n, n >= 1"
        )
    if not 0 < level < 1:
        raise ConfigError(
            f"the confidence level is {level}", allowed="between 0 and 1, such as 0.95"
        )
    from scipy.stats import binomtest

    interval = binomtest(correct, n).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def mean_of_languages(
    counts: Mapping[str, tuple[int, int]], level: float = 0.95
) -> tuple[float, float, float]:
    """The mean of the languages' accuracies, each language counting the same, and its interval.

    The interval combines the languages' Wilson intervals: the squared distances from each accuracy
    to its lower end are added, and so to its upper end (MOVER; Zou and Donner, Statistics in
    Medicine 2008). For one language it is Wilson's; for many rows it is the usual interval of a
    stratified sample, variance Σ p(1-p)/n / K². Unlike that one it does not shrink to nothing where
    all answers are right or all are wrong.

    It covers: another draw of rows in these same languages, drawn anew for each language.
    It does not cover: other languages (they are fixed, not sampled), other training seeds, and, for
    a test set that is translated row by row, that a hard row is hard in all its languages: against
    another set of source rows the interval is then too narrow.

    Args:
        counts: language → (right answers, rows).
        level: confidence level, between 0 and 1.

    Returns:
        The mean, the lower and the upper end, as proportions.

    Raises:
        ResultError: no languages, or counts that do not make a proportion.
        ConfigError: the level is out of range.
    """
    if not counts:
        raise ResultError("there are no languages to average over", allowed="one or more")
    below = above = total = 0.0
    for correct, n in counts.values():
        low, high = wilson(correct, n, level)
        accuracy = correct / n
        total += accuracy
        below += (accuracy - low) ** 2
        above += (high - accuracy) ** 2
    k = len(counts)
    mean = total / k
    return mean, max(0.0, mean - math.sqrt(below) / k), min(1.0, mean + math.sqrt(above) / k)
