import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from layerbridge.errors import ResultError
from layerbridge.evaluation.statistics.proportions import wilson
from layerbridge.evaluation.statistics.seeds import Answers, half_width, mean_of_seeds, spread
from made_results import answers


def test_one_seed_of_one_language_is_wilson():
    assert mean_of_seeds({"si": answers("1" * 7 + "0" * 13)}) == pytest.approx(
        (0.35, *wilson(7, 20))
    )


def right(correct, n):
    return "1" * correct + "0" * (n - correct)


def apart(*counts):
    """One seed of languages that share no rows, from (right answers, rows) of each."""
    return {
        str(code): answers(right(*count), rows=[f"{code}/{i:06}" for i in range(count[1])])
        for code, count in enumerate(counts)
    }


def test_one_seed_of_languages_with_rows_of_their_own():
    counts = [(5, 10), (11, 14)]
    mean, low, high = mean_of_seeds(apart(*counts))
    intervals = [(c / n, *wilson(c, n)) for c, n in counts]
    below, above = (
        math.hypot(*(each[0] - each[side] for each in intervals)) / 2 for side in (1, 2)
    )
    expected = (5 / 10 + 11 / 14) / 2
    assert (mean, low, high) == pytest.approx((expected, expected - below, expected + above))


def test_every_language_counts_the_same():
    assert mean_of_seeds(apart((1, 2), (100, 100)))[0] == pytest.approx(0.75)


def test_many_rows_are_the_stratified_interval():
    counts = [(4_000, 10_000), (1_000, 5_000), (18_000, 20_000)]
    mean, low, high = mean_of_seeds(apart(*counts))
    variance = sum((c / n) * (1 - c / n) / n for c, n in counts) / 9
    assert mean == pytest.approx(0.5)
    assert (mean - low, high - mean) == pytest.approx((1.96 * math.sqrt(variance),) * 2, rel=2e-2)


def test_ends_are_proportions():
    for a, b in product((0, 1, 5), repeat=2):
        mean, low, high = mean_of_seeds(apart((a, 5), (b, 5)))
        assert 0 <= low <= mean <= high <= 1


@pytest.mark.parametrize("correct", [0, 7, 20])
def test_languages_that_answer_alike_tell_no_more_than_one(correct):
    """Also where all answers are equal, and there is no variance to see that from."""
    alike = dict.fromkeys(("si", "ta", "am", "sw"), answers(right(correct, 20)))
    assert mean_of_seeds(alike) == pytest.approx((correct / 20, *wilson(correct, 20)))
    # Rows of their own do tell more.
    _, low, high = mean_of_seeds(apart(*[(correct, 20)] * 4))
    assert high - low < 0.6 * (wilson(correct, 20)[1] - wilson(correct, 20)[0])


def test_seeds_that_all_answer_alike_are_one():
    alike = answers(*["1" * 7 + "0" * 13] * 4)
    assert mean_of_seeds({"si": alike}) == pytest.approx((0.35, *wilson(7, 20)))


SEEDS = answers("1111011011", "1110010011", "0111011010")


def naive(found, level=0.95):
    """One language, row by row and by the formulas."""
    seeds, rows = found.right.shape
    mean = sum(map(sum, found.right.tolist())) / seeds / rows
    z = stats.norm.ppf((1 + level) / 2)
    middle = (mean + z * z / 2 / rows) / (1 + z * z / rows)
    half = z * math.sqrt(mean * (1 - mean) / rows + (z / 2 / rows) ** 2) / (1 + z * z / rows)
    between = sum((sum(row) / seeds - mean) ** 2 for row in found.right.T.tolist()) / rows
    kept = math.sqrt(between / (mean * (1 - mean)))
    of_seeds = stats.t.ppf((1 + level) / 2, seeds - 1) * stats.sem(found.right.mean(axis=1))
    below, above = kept * (mean - middle + half), kept * (middle + half - mean)
    return mean, mean - math.hypot(below, of_seeds), mean + math.hypot(above, of_seeds)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_seeds_against_the_formula(level):
    mean, low, high = naive(SEEDS, level)
    expected = (mean, max(0, low), min(1, high))
    assert mean_of_seeds({"si": SEEDS}, level) == pytest.approx(expected)


def test_a_row_that_languages_share_is_one_row():
    one = mean_of_seeds({"si": SEEDS})
    assert mean_of_seeds({"si": SEEDS, "ta": SEEDS}) == pytest.approx(one)
    other = Answers(tuple(f"ta{row}" for row in SEEDS.rows), SEEDS.right)
    assert mean_of_seeds({"si": SEEDS, "ta": other})[1] > one[1]


def test_rows_that_some_languages_share():
    rows = SEEDS.rows
    half = Answers(rows[:5] + tuple(f"ta{row}" for row in rows[5:]), SEEDS.right)
    ends = [
        mean_of_seeds({"si": SEEDS, "ta": Answers(names, SEEDS.right)})[1]
        for names in (rows, half.rows, tuple(f"ta{row}" for row in rows))
    ]
    assert ends[0] < ends[1] < ends[2]


def test_all_right_is_not_certain():
    _, low, _ = mean_of_seeds(apart((20, 20), (20, 20)))
    assert 0.85 < low < 0.95
    mean, low, high = mean_of_seeds({"si": answers("1" * 20, "1" * 20)})
    assert mean == high == 1
    assert low == pytest.approx(wilson(20, 20)[0])


def test_seeds_that_cancel_out_are_not_certain():
    _, low, high = mean_of_seeds({"si": answers("10" * 10, "01" * 10)})
    assert high - low > 0.25


def test_the_order_of_languages_and_rows_changes_nothing():
    rows = ["c", "a", "d", "b"]
    si, ta = (["1101", "0100"], ["1100", "1011"])
    one = {"si": answers(*si, rows=rows), "ta": answers(*ta, rows=rows)}
    other = {
        "ta": answers(*(seed[::-1] for seed in ta), rows=rows[::-1]),
        "si": answers(*(seed[::-1] for seed in si), rows=rows[::-1]),
    }
    assert mean_of_seeds(one) == mean_of_seeds(other)


def test_no_languages():
    with pytest.raises(ResultError) as error:
        mean_of_seeds({})
    assert str(error.value) == "there are no languages to average over; allowed: one or more"


def test_spread_and_half_width():
    found = spread([0.4, 0.5, 0.9])
    assert found == pytest.approx((stats.sem([0.4, 0.5, 0.9]), 2))
    assert half_width(0.05, [found]) == pytest.approx(stats.t.ppf(0.975, 2) * found.error)
    assert half_width(0.05, [found, found]) == pytest.approx(
        math.sqrt(2) * half_width(0.05, [found])
    )
    assert spread([0.4]) is None
    assert half_width(0.05, []) == 0


@pytest.mark.parametrize(
    ("truth", "n"), [((0.5, 0.7, 0.9), 20), ((0.97, 0.99, 0.9, 0.95), 30), ((0.2, 0.6), 100)]
)
def test_coverage_of_one_seed(truth, n):
    draws = np.random.default_rng(0).binomial(n, truth, size=(1500, len(truth)))
    known = {}
    covered = 0
    for draw in draws.tolist():
        key = tuple(sorted(draw))
        if key not in known:
            known[key] = mean_of_seeds(apart(*((count, n) for count in key)))
        _, low, high = known[key]
        covered += low <= np.mean(truth) <= high
    # 1500 draws: three standard errors are 1.7 points.
    assert 0.93 <= covered / len(draws) <= 0.985


def test_coverage_of_one_seed_of_languages_that_share_rows():
    random = np.random.default_rng(0)
    level, hard, own = 0.4, 1.5, 1.0
    truth = stats.norm.cdf(level / math.hypot(hard, own))
    names = tuple(f"{i:02}" for i in range(40))
    covered = as_if_apart = 0
    for _ in range(300):
        of_rows = level + random.normal(0, hard, 40)
        made = (of_rows + random.normal(0, own, (10, 40)) > 0).astype(float)
        languages = {str(code): Answers(names, made[code : code + 1]) for code in range(10)}
        _, low, high = mean_of_seeds(languages)
        covered += low <= truth <= high
        _, low, high = mean_of_seeds(
            {
                code: Answers(tuple(code + n for n in names), a.right)
                for code, a in languages.items()
            }
        )
        as_if_apart += low <= truth <= high
    assert 0.92 <= covered / 300 <= 0.99
    # What this is for: languages taken for independent.
    assert as_if_apart / 300 < 0.75


@pytest.mark.parametrize(
    ("seeds", "rows", "of_seed"), [(3, 200, 0.25), (5, 60, 0.0), (2, 100, 0.25)]
)
def test_coverage(seeds, rows, of_seed):
    random = np.random.default_rng(seeds)
    names = tuple(f"{i:05}" for i in range(rows))
    # Φ(level) is right, over all rows and seeds.
    level, noise = 0.3, 0.8
    truth = stats.norm.cdf(level / math.sqrt(1 + noise**2 + of_seed**2))
    covered = by_rows = 0
    for _ in range(300):
        made = level + random.normal(0, of_seed, (seeds, 1)) + random.normal(0, 1, rows)
        right = (made + random.normal(0, noise, (seeds, rows)) > 0).astype(float)
        _, low, high = mean_of_seeds({"si": Answers(names, right)})
        covered += low <= truth <= high
        low, high = wilson(round(right.sum()), right.size)
        by_rows += low <= truth <= high
    assert 0.93 <= covered / 300 <= 0.997
    # Taking the seeds' answers for so many rows is the usual mistake, and this would find it.
    assert by_rows / 300 < 0.9
