"""One method against another on the mean over languages: the hierarchical bootstrap.

Rows are many and are resampled, jointly where languages share them. Seeds and languages are few:
the error of a mean over them is sampled from Student's t and added to each bootstrap sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import layerbridge.evaluation.statistics.resampling as bootstrap
from layerbridge.errors import ResultError
from layerbridge.evaluation.statistics.paired import Difference, difference
from layerbridge.evaluation.statistics.seeds import Answers, spread, spreads_of_seeds

if TYPE_CHECKING:
    from numpy.typing import NDArray


class AverageDifference(NamedTuple):
    """The same effect, for two questions.

    Attributes:
        these: covers other rows and seeds in these languages.
        others: covers other languages too, as if these were a random sample of them; None for a
            single language.
    """

    these: Difference
    others: Difference | None


def average_difference(
    first: Mapping[str, Answers],
    second: Mapping[str, Answers],
    *,
    paired_seeds: bool,
    other_seeds: bool = True,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> AverageDifference:
    """How much better the first method is than the second on the mean over languages.

    Both intervals cover another sample of rows (the same ones wherever languages share rows).

    Args:
        first: code → answers.
        second: of the same languages and rows.
        paired_seeds: the n-th seed of one belongs to the n-th of the other.
        other_seeds: whether the intervals cover other seeds of each method that has several, or
            the mean of these alone.
        draws: bootstrap samples.
        seed: of the generator.
        level: confidence level, between 0 and 1.

    Raises:
        ResultError: there are no languages.
    """
    import numpy as np

    codes = sorted(first)
    if not codes:
        raise ResultError("there are no languages to average over", allowed="one or more")
    if len(codes) == 1:
        alone = difference(
            first[codes[0]],
            second[codes[0]],
            paired_seeds=paired_seeds,
            other_seeds=other_seeds,
            level=level,
        )
        return AverageDifference(alone, None)

    gains = {code: first[code].by_row - second[code].by_row for code in codes}
    rows = {code: dict(zip(first[code].rows, gains[code].tolist(), strict=True)) for code in codes}
    means = bootstrap.draw_means(rows, draws, seed)
    drawn = np.mean([means[code] for code in codes], axis=0)
    if other_seeds:
        one, other = (
            np.mean([of[code].by_seed for code in codes], axis=0) for of in (first, second)
        )
        for number, error in enumerate(spreads_of_seeds(one, other, paired_seeds)):
            drawn = drawn + bootstrap.draw_error(error, draws, seed, f"seeds {number}")
    of_languages = spread([gains[code].mean() for code in codes])
    assert of_languages is not None
    wider = drawn + bootstrap.draw_error(of_languages, draws, seed, "languages")
    effect = float(np.mean([gains[code].mean() for code in codes]))

    def summary(drawn: NDArray) -> Difference:
        low, high = bootstrap.percentile_interval(drawn, level)
        return Difference(effect, low, high, bootstrap.p_value(drawn))

    return AverageDifference(summary(drawn), summary(wider))
