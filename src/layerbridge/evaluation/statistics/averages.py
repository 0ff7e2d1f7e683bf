"""One method against another on the mean over languages: the hierarchical bootstrap.

The rows are many and are resampled, jointly where languages share them. Seeds and languages are
few; the error of a mean over them is drawn from Student's t and added to each draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from layerbridge.errors import ResultError
from layerbridge.evaluation.statistics.answers import Answers
from layerbridge.evaluation.statistics.paired import Difference, difference
from layerbridge.evaluation.statistics.resampling import (
    DRAWS,
    draw_error,
    draw_means,
    ends,
    p_value,
)
from layerbridge.evaluation.statistics.seeds import spread, spreads_of_seeds

if TYPE_CHECKING:
    from numpy.typing import NDArray


class AverageDifference(NamedTuple):
    """The same effect for two questions.

    Attributes:
        these: what other rows and seeds would give in these languages.
        others: the same in other languages too, as if these were drawn at random from them; None
            for a single language, which says nothing about others.
    """

    these: Difference
    others: Difference | None


def average_difference(
    first: Mapping[str, Answers],
    second: Mapping[str, Answers],
    *,
    paired_seeds: bool,
    other_seeds: bool = True,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> AverageDifference:
    """How much better the first method is than the second on the mean over languages.

    Both intervals cover another draw of rows (the same ones wherever languages share rows) and,
    unless told otherwise, other seeds of each method that has several.

    Args:
        first: code → answers.
        second: of the same languages and rows.
        paired_seeds: the n-th seed of the one belongs to the n-th of the other.
        other_seeds: whether it is to hold for other seeds; without, for the mean of these alone.
        draws: of rows.
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
    of_rows = draw_means(
        {
            code: dict(zip(first[code].rows, gain.tolist(), strict=True))
            for code, gain in gains.items()
        },
        draws,
        seed,
    )
    drawn = np.mean([of_rows[code] for code in codes], axis=0)
    if other_seeds:
        one, other = (
            np.mean([of[code].by_seed for code in codes], axis=0) for of in (first, second)
        )
        for number, error in enumerate(spreads_of_seeds(one, other, paired_seeds)):
            drawn = drawn + draw_error(error, draws, seed, f"seeds {number}")
    of_languages = spread([gains[code].mean() for code in codes])
    assert of_languages is not None
    more = drawn + draw_error(of_languages, draws, seed, "languages")
    effect = float(np.mean([gains[code].mean() for code in codes]))

    def told(draws: NDArray) -> Difference:
        return Difference(effect, *ends(draws, level), p_value(draws))

    return AverageDifference(told(drawn), told(more))
