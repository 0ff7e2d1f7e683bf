"""Intervals for the accuracies of one run: what a test set of this size can tell.

Every interval here covers another sample of test rows of the same languages, and never another
training seed; ``seeds`` has those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from layerbridge.errors import ConfigError, ResultError


def wilson(correct: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion.

    Unlike the textbook interval it stays within 0 and 1 and keeps its coverage for small n and for
    accuracies near 0 or 1 (E. B. Wilson, JASA 1927; Newcombe, Statistics in Medicine 1998).

    Args:
        correct: right answers, 0 to n; not an integer for a mean over seeds, which is why this
            is not ``scipy.stats.binomtest``. The numbers are the same.
        n: rows, 1 or more.
        level: confidence level, between 0 and 1.

    Returns:
        The lower and the upper end, as proportions.

    Raises:
        ResultError: the counts are not a proportion.
        ConfigError: the level is out of range.
    """
    if not 0 <= correct <= n or n < 1:
        raise ResultError(
            f"{correct} of {n} is not a proportion", allowed="0 <= correct <= n, n >= 1"
        )
    if not 0 < level < 1:
        raise ConfigError(
            f"the confidence level is {level}", allowed="between 0 and 1, such as 0.95"
        )
    from scipy.special import ndtri

    z = float(ndtri(0.5 + 0.5 * level))
    p = correct / n
    denominator = 2 * (n + z**2)
    center = (2 * n * p + z**2) / denominator
    half = z / denominator * math.sqrt(4 * n * p * (1 - p) + z**2)
    # At the ends rounding would miss 0 or 1.
    return (0.0 if correct == 0 else center - half), (1.0 if correct == n else center + half)


def mean_of_languages(
    counts: Mapping[str, tuple[int, int]], level: float = 0.95
) -> tuple[float, float, float]:
    """The unweighted mean of the languages' accuracies and its interval.

    The interval combines the languages' Wilson intervals: the squared distances from each accuracy
    to its lower end are added, and so to its upper end (MOVER; Zou and Donner, Statistics in
    Medicine 2008). For one language it is Wilson's; for many rows it is the usual interval of a
    stratified sample, variance Σ p(1-p)/n / K², but it does not shrink to nothing where all answers
    are right or all are wrong.

    It covers another sample of rows in these languages, independent for each language. It does not
    cover other languages (they are fixed, not sampled), other training seeds, or that in a test set
    translated row by row a hard row is hard in every language: for those it is too narrow.

    Args:
        counts: language → (right answers, rows).
        level: confidence level, between 0 and 1.

    Returns:
        The mean, the lower and the upper end, as proportions.

    Raises:
        ResultError: no languages, or counts that are not a proportion.
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
