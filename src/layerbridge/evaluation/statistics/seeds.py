"""Several training seeds: how far a mean over a few of them may be from the mean over all.

A handful of seeds is too few to resample: with three, resampling reaches no further than the best
and the worst, and covers the truth three times in four where seeds are what differs. Student's t
accounts for how little three numbers tell about their own spread.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from layerbridge.errors import ResultError
from layerbridge.evaluation.statistics.proportions import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """Right (1) or wrong (0): the answers of one method in one language, by seed and row.

    Attributes:
        rows: keys of the rows, sorted, so that the order of a file changes no number.
        right: [seeds, rows].
    """

    rows: tuple[str, ...]
    right: NDArray

    @classmethod
    def of(cls, seeds: Sequence[Mapping[str, bool]]) -> Answers:
        """From a mapping of row → right or wrong for each seed, all of the same rows."""
        import numpy as np

        rows = tuple(sorted(seeds[0]))
        return cls(rows, np.array([[seed[row] for row in rows] for seed in seeds], dtype=float))

    @property
    def by_row(self) -> NDArray:
        """Share of the seeds that are right on each row."""
        return self.right.mean(axis=0)

    @property
    def by_seed(self) -> NDArray:
        """Accuracy of each seed."""
        return self.right.mean(axis=1)


class Spread(NamedTuple):
    """Standard error of a mean and its degrees of freedom, infinite for a normal distribution."""

    error: float
    freedom: float


def spread(values: Sequence[float] | NDArray) -> Spread | None:
    """The spread of the mean of these values; None for a single one, which has none."""
    import numpy as np

    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return None
    return Spread(float(values.std(ddof=1)) / math.sqrt(len(values)), len(values) - 1)


def spreads_of_seeds(first: NDArray, second: NDArray, paired: bool) -> list[Spread]:
    """What other seeds add to a difference of two methods' means; a single seed adds nothing."""
    spreads = [spread(first - second)] if paired else [spread(first), spread(second)]
    return [each for each in spreads if each]


def half_width(outside: float, spreads: Iterable[Spread]) -> float:
    """Half the width of an interval that leaves a share outside; spreads are added by squares."""
    from scipy.special import stdtrit

    return math.hypot(*(float(stdtrit(s.freedom, outside / 2)) * s.error for s in spreads))


def mean_of_seeds(
    languages: Mapping[str, Answers], level: float = 0.95
) -> tuple[float, float, float]:
    """The mean accuracy over seeds and languages, unweighted, and its interval.

    Rows: Wilson's intervals of the languages, whose squared distances from the accuracy are added
    (MOVER; Zou and Donner, Statistics in Medicine 2008), scaled to the rows' own variance. It is
    larger where languages share rows, since a hard row is hard in all of them, and smaller by what
    averaging over seeds removes.
    Seeds: Student's t of the seeds' means, added to it by squares as well.

    It covers another sample of rows (the same ones wherever languages share rows) and other seeds,
    not other languages, which are fixed. What a seed does to single rows counts in both parts, so
    the interval is rather too wide than too narrow. With two seeds it is very wide. For one seed of
    one language it is Wilson's.

    Args:
        languages: code → answers, all of the same seeds; with one seed it covers the rows alone.
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
    below = above = independent = total = 0.0
    for answers in (languages[code] for code in codes):
        mean, n = float(answers.right.mean()), len(answers.rows)
        low, high = wilson(mean * n, n, level)
        total += mean
        below += ((mean - low) / k) ** 2
        above += ((high - mean) / k) ** 2
        independent += mean * (1 - mean) / n / k**2
    by_seed = np.mean([languages[code].by_seed for code in codes], axis=0)
    # Where all answers are equal there is no variance to compare with.
    equal = independent < 1e-12
    if equal:
        independent = sum(1 / len(languages[code].rows) for code in codes) / k**2
    share = _variance_of_rows(languages, equal=equal) / independent
    # Less than if every answer of every seed were a row of its own is chance.
    scale = math.sqrt(max(share, 1 / len(by_seed)))
    of_seeds = spread(by_seed)
    seeds = half_width(1 - level, [of_seeds] if of_seeds else [])
    low = total / k - math.hypot(scale * math.sqrt(below), seeds)
    high = total / k + math.hypot(scale * math.sqrt(above), seeds)
    return total / k, max(0.0, low), min(1.0, high)


def _variance_of_rows(languages: Mapping[str, Answers], *, equal: bool) -> float:
    """Variance of the mean over languages under another sample of rows.

    If all answers are equal, as if each row's were off by 1, and by the same in all its languages.
    """
    import numpy as np

    contributions: dict[str, float] = defaultdict(float)
    for answers in languages.values():
        by_row = answers.by_row
        off = np.ones_like(by_row) if equal else by_row - by_row.mean()
        shares = off / len(by_row) / len(languages)
        for row, share in zip(answers.rows, shares.tolist(), strict=True):
            contributions[row] += share
    return math.fsum(share**2 for share in contributions.values())
