import math
from itertools import product

import numpy as np
import pytest

from layerbridge.errors import ConfigError, ResultError
from layerbridge.evaluation.statistics.proportions import mean_of_languages, wilson


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    # Newcombe (1998), table I, method 3: the Wilson score interval without continuity correction.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(correct, n, low, high):
    assert wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_the_complement_is_mirrored():
    low, high = wilson(7, 20, level=0.9)
    assert wilson(13, 20, level=0.9) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("correct", "n"), [(1, 0), (0, 0), (-1, 5), (6, 5)])
def test_counts_that_are_no_proportion(correct, n):
    with pytest.raises(ResultError) as error:
        wilson(correct, n)
    assert str(error.value) == (
        f"{correct} of {n} is not a proportion; allowed: 0 <= correct <= n, n >= 1"
    )


def test_level_out_of_range():
    with pytest.raises(ConfigError) as error:
        wilson(1, 2, level=95)
    assert str(error.value) == (
        "the confidence level is 95; allowed: between 0 and 1, such as 0.95"
    )


def test_every_language_counts_the_same():
    assert mean_of_languages({"si": (1, 2), "ta": (100, 100)})[0] == pytest.approx(0.75)


def test_one_language_is_wilson():
    assert mean_of_languages({"si": (81, 263)})[1:] == pytest.approx(wilson(81, 263))


def test_many_rows_are_the_stratified_interval():
    counts = {"si": (40_000, 100_000), "ta": (10_000, 50_000), "am": (180_000, 200_000)}
    mean, low, high = mean_of_languages(counts)
    variance = sum((c / n) * (1 - c / n) / n for c, n in counts.values()) / 9
    assert mean == pytest.approx(0.5)
    assert (mean - low, high - mean) == pytest.approx(
        (1.959964 * math.sqrt(variance),) * 2, rel=5e-3
    )


def test_all_right_is_not_certain():
    mean, low, high = mean_of_languages({"si": (20, 20), "ta": (20, 20)})
    assert mean == high == 1
    assert 0.85 < low < 0.95


def test_no_languages():
    with pytest.raises(ResultError) as error:
        mean_of_languages({})
    assert str(error.value) == "there are no languages to average over; allowed: one or more"


@pytest.mark.parametrize(
    ("truth", "n"), [((0.5, 0.7, 0.9), 20), ((0.97, 0.99, 0.9, 0.95), 30), ((0.2, 0.6), 100)]
)
def test_coverage(truth, n):
    draws = np.random.default_rng(0).binomial(n, truth, size=(1500, len(truth)))
    known = {}
    covered = 0
    for draw in draws.tolist():
        key = tuple(sorted(draw))
        if key not in known:
            known[key] = mean_of_languages({str(i): (c, n) for i, c in enumerate(key)})
        _, low, high = known[key]
        covered += low <= np.mean(truth) <= high
    # 1500 draws: three standard errors are 1.7 points.
    assert 0.93 <= covered / len(draws) <= 0.985


def test_ends_are_proportions():
    for a, b in product((0, 1, 5), repeat=2):
        mean, low, high = mean_of_languages({"si": (a, 5), "ta": (b, 5)})
        assert 0 <= low <= mean <= high <= 1
