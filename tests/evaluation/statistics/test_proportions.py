import pytest

from layerbridge.errors import ConfigError, ResultError
from layerbridge.evaluation.statistics.proportions import wilson


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
