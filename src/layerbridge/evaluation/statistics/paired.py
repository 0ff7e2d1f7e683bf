"""One method against another on the same rows of one language, and Holm's correction for many.

One seed each is the matched pair of the textbooks. Several seeds add an error of their own, since
what was trained again would answer differently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from layerbridge.evaluation.statistics.answers import Answers
from layerbridge.evaluation.statistics.seeds import Spread, reach, spreads_of_seeds

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
    Statistics 2012): two made-up rows, one won by each method, keep it honest for few rows. With
    several seeds its rows are the means over the seeds, and Student's t of the seeds' differences
    is added by squares, as in ``seeds``.

    p is McNemar's exact test where each method has one seed; it is then about the rows alone.
    Otherwise it is the level at which the interval just touches 0, about what the interval is.

    Args:
        first: answers by seed and row.
        second: of the same rows.
        paired_seeds: the n-th seed of the one belongs to the n-th of the other. Without, the seeds
            of the two are drawn apart, and a method with a single one adds no error of its own.
        other_seeds: whether it is to hold for other seeds; without, for the mean of these alone.
        level: confidence level, between 0 and 1.
    """
    gain = first.by_row - second.by_row
    made_up = len(gain) + 2
    centre = float(gain.sum()) / made_up
    variance = (float((gain**2).sum()) + 2) / made_up - centre**2
    spreads = [Spread(math.sqrt(variance / made_up), math.inf)]
    if other_seeds:
        spreads += spreads_of_seeds(first.by_seed, second.by_seed, paired_seeds)
    half = reach(1 - level, spreads)
    if len(first.right) == len(second.right) == 1:
        p = mcnemar(*discordant(first, second))
    else:
        p = _touching(centre, spreads)
    effect = float(gain.mean())
    return Difference(effect, max(-1.0, centre - half), min(1.0, centre + half), p)


def discordant(first: Answers, second: Answers) -> tuple[int, int]:
    """Rows on which more of the first method's seeds are right, by share, and fewer."""
    gain = first.by_row - second.by_row
    return int((gain > 1e-9).sum()), int((gain < -1e-9).sum())


def mcnemar(first_only: int, second_only: int) -> float:
    """p of McNemar's exact test, from the rows that one method alone got right."""
    from statsmodels.stats import contingency_tables

    return float(contingency_tables.mcnemar([[0, first_only], [second_only, 0]], exact=True).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values after Holm's correction (Scandinavian Journal of Statistics 1979)."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]]


def _touching(centre: float, spreads: Sequence[Spread]) -> float:
    """1 - level of the interval around ``centre`` that just reaches 0."""
    from scipy.optimize import brentq

    def over(log_p: float) -> float:
        return reach(math.exp(log_p), spreads) - abs(centre)

    if over(0.0) >= 0:
        return 1.0
    if over(math.log(_SMALLEST)) <= 0:
        return _SMALLEST
    return math.exp(brentq(over, math.log(_SMALLEST), 0.0))
