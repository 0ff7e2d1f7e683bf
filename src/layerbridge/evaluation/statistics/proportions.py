"""The interval of a proportion: what a test set of this size can tell of one run in one language.

It covers other test rows, never another training seed. ``seeds`` has averages and seeds.
"""

from __future__ import annotations

import math

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
