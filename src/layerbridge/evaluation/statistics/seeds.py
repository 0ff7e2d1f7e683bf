"""Several training seeds: how far a mean over a few of them may be from the mean over all.

A handful of seeds is too few to resample: with three, resampling reaches no further than the best
and the worst of them, and covers the truth three times in four where the seeds are what differs.
Student's t knows how little three numbers say about their own spread.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from layerbridge.errors import ResultError
from layerbridge.evaluation.statistics.answers import Answers

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Spread(NamedTuple):
    """Standard error of a mean and its degrees of freedom; infinitely many are a normal's."""

    error: float
    freedom: float


def spread(means: Sequence[float] | NDArray) -> Spread | None:
    """The spread of the mean of these; None for one, which says nothing about others."""
    import numpy as np

    values = np.asarray(means, dtype=float)
    if len(values) < 2:
        return None
    return Spread(float(values.std(ddof=1)) / math.sqrt(len(values)), len(values) - 1)


def spreads_of_seeds(first: NDArray, second: NDArray, paired: bool) -> list[Spread]:
    """What other seeds add to a difference of two methods' means; a single seed adds nothing."""
    found = [spread(first - second)] if paired else [spread(first), spread(second)]
    return [each for each in found if each]


def reach(outside: float, spreads: Iterable[Spread]) -> float:
    """How far the spreads together reach, leaving a share outside: half widths added by squares."""
    from scipy.special import stdtrit

    return math.hypot(*(float(stdtrit(s.freedom, outside / 2)) * s.error for s in spreads))


def mean_of_seeds(
    languages: Mapping[str, Answers], level: float = 0.95
) -> tuple[float, float, float]:
    """The mean accuracy over seeds and languages, each language counting the same, its interval.

    Rows: Wilson's intervals of the languages, put together as in ``mean_of_languages``, and made
    wider or narrower as the rows' own variance says. It is larger where languages share rows, since
    a hard row is hard in all of them, and smaller by what averaging over the seeds takes away.
    Seeds: Student's t of the seeds' means. The squared distances of both are added (MOVER; Zou and
    Donner, Statistics in Medicine 2008).

    It covers: another draw of rows (the same ones wherever languages share rows), other seeds.
    It does not cover: other languages; they are fixed.

    What a seed does to single rows counts in both parts, so the interval is rather too wide than
    too narrow. With two seeds it is very wide, since two say next to nothing about their spread.

    Args:
        languages: code → answers, all of the same seeds; with one seed it is about the rows alone.
        level: confidence level, between 0 and 1.

    Returns:
        The mean, the lower and the upper end, as proportions.

    Raises:
        ResultError: there are no languages.
    """
    import numpy as np

    if not languages:
        raise ResultError("there are no languages to average over", allowed="one or more")
    codes = sorted(languages)
    k = len(codes)
    below = above = one_draw_each = total = 0.0
    for answers in (languages[code] for code in codes):
        mean, n = float(answers.right.mean()), len(answers.rows)
        low, high = _wilson(mean, n, level)
        total += mean
        below += ((mean - low) / k) ** 2
        above += ((high - mean) / k) ** 2
        one_draw_each += mean * (1 - mean) / n / k**2
    by_seed = np.mean([languages[code].by_seed for code in codes], axis=0)
    # Where all answers are alike there is no variance to compare: the rows count in full. Less
    # than if every answer of every seed were a row of its own is chance.
    alike = one_draw_each < 1e-12
    share = 1.0 if alike else _variance_of_rows(languages) / one_draw_each
    scale = math.sqrt(max(share, 1 / len(by_seed)))
    of_seeds = spread(by_seed)
    seeds = reach(1 - level, [of_seeds] if of_seeds else [])
    low = total / k - math.hypot(scale * math.sqrt(below), seeds)
    high = total / k + math.hypot(scale * math.sqrt(above), seeds)
    return total / k, max(0.0, low), min(1.0, high)


def _wilson(share: float, n: int, level: float) -> tuple[float, float]:
    """As ``wilson``, for a mean over seeds: a number of right answers that need not be whole."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(share * n, n, alpha=1 - level, method="wilson")
    return float(low), float(high)


def _variance_of_rows(languages: Mapping[str, Answers]) -> float:
    """Of the mean over languages, under another draw of rows: what each row adds to it, squared."""
    added: dict[str, float] = defaultdict(float)
    for answers in languages.values():
        by_row = answers.by_row
        shares = (by_row - by_row.mean()) / len(by_row) / len(languages)
        for row, share in zip(answers.rows, shares.tolist(), strict=True):
            added[row] += share
    return math.fsum(share**2 for share in added.values())
