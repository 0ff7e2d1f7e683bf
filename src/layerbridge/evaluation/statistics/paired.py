"""One method against another on the same rows of one language, and Holm's correction for many.

With one seed each, these are the matched pairs of the textbooks. Several seeds add an error of
their own, since a method that is trained again answers differently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from layerbridge.evaluation.statistics.seeds import Answers, Spread, half_width, spreads_of_seeds

_SMALLEST = 1e-12


class Difference(NamedTuple):
    """A difference of two accuracies as a proportion, its interval, and p against no difference."""

    effect: float
    low: float
    high: float
    p: float


def difference(
    first: Answers,
    second: Answers,
    *,
    paired_seeds: bool,
    other_seeds: bool = True,
    level: float = 0.95,
) -> Difference:
    """How much more often the first method is right than the second, on the same rows.

    The interval's part for the rows is Bonett and Price's (Journal of Educational and Behavioral
    Statistics 2012): two pseudo-rows, one won by each method, keep it honest for few rows. With
    several seeds its rows are the means over the seeds, and Student's t of the seeds' differences
    is added by squares, as in ``seeds``.

    p is McNemar's exact test where each method has one seed; it then covers the rows alone.
    Otherwise it is the level at which the interval just touches 0.

    Args:
        first: answers by seed and row.
        second: of the same rows.
        paired_seeds: the n-th seed of one belongs to the n-th of the other. Otherwise the seeds are
            independent samples, and a method with a single one adds no error of its own.
        other_seeds: whether the interval covers other seeds, or the mean of these alone.
        level: confidence level, between 0 and 1.
    """
    gain = first.by_row - second.by_row
    n = len(gain) + 2
    center = float(gain.sum()) / n
    variance = (float((gain**2).sum()) + 2) / n - center**2
    spreads = [Spread(math.sqrt(variance / n), math.inf)]
    if other_seeds:
        spreads += spreads_of_seeds(first.by_seed, second.by_seed, paired_seeds)
    half = half_width(1 - level, spreads)
    if len(first.right) == len(second.right) == 1:
        p = mcnemar(*discordant(first, second))
    else:
        p = _touching_level(center, spreads)
    return Difference(float(gain.mean()), max(-1.0, center - half), min(1.0, center + half), p)


def discordant(first: Answers, second: Answers) -> tuple[int, int]:
    """Rows on which a larger share of the first method's seeds is right, and a smaller one."""
    gain = first.by_row - second.by_row
    return int((gain > 1e-9).sum()), int((gain < -1e-9).sum())


def mcnemar(first_only: int, second_only: int) -> float:
    """p of McNemar's exact test, from the rows that only one method got right."""
    from statsmodels.stats import contingency_tables

    return float(contingency_tables.mcnemar([[0, first_only], [second_only, 0]], exact=True).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values after Holm's correction (Scandinavian Journal of Statistics 1979)."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]]


def _touching_level(center: float, spreads: Sequence[Spread]) -> float:
    """1 - level of the interval around ``center`` that just touches 0."""
    from scipy.optimize import brentq

    def excess(log_p: float) -> float:
        return half_width(math.exp(log_p), spreads) - abs(center)

    if excess(0.0) >= 0:
        return 1.0
    if excess(math.log(_SMALLEST)) <= 0:
        return _SMALLEST
    return math.exp(brentq(excess, math.log(_SMALLEST), 0.0))
