import math

import numpy as np
import pytest
from scipy import stats

from layerbridge.evaluation.statistics.paired import difference, discordant, holm, mcnemar
from layerbridge.evaluation.statistics.seeds import Answers
from made_results import answers


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (8, 2, 2 * (1 + 10 + 45) / 2**10),  # ways of 0, 1 and 2 of 10
        (2, 8, 2 * (1 + 10 + 45) / 2**10),
        (5, 0, 2 / 2**5),
        (1, 0, 1.0),
        (4, 4, 1.0),  # twice the half is more than 1
        (0, 0, 1.0),
    ],
)
def test_mcnemar_by_hand(first, second, p):
    assert mcnemar(first, second) == pytest.approx(p)


@pytest.mark.parametrize(
    ("given", "corrected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 × 0.01; 2 × 0.03; 0.04 is not below 0.06
        ([0.2], [0.2]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.001, 0.011, 0.02, 0.04], [0.004, 0.033, 0.04, 0.04]),
    ],
)
def test_holm_by_hand(given, corrected):
    assert holm(given) == pytest.approx(corrected)
    assert holm(given[::-1]) == pytest.approx(corrected[::-1])


#                    both  first alone  second alone  neither
ONE = answers("1" * 5 + "1" * 8 + "0" * 2 + "0" * 35)
TWO = answers("1" * 5 + "0" * 8 + "1" * 2 + "0" * 35)


def test_one_seed_by_hand():
    found = difference(ONE, TWO, paired_seeds=True)
    # Bonett and Price: one made-up row for either method.
    won, lost, n = 9 / 52, 3 / 52, 52
    error = math.sqrt((won + lost - (won - lost) ** 2) / n)
    assert found.effect == pytest.approx(6 / 50)
    assert (found.low, found.high) == pytest.approx(
        (won - lost - 1.959964 * error, won - lost + 1.959964 * error), abs=1e-6
    )
    assert found.p == mcnemar(8, 2)
    assert discordant(ONE, TWO) == (8, 2)


def test_the_level_moves_the_ends_alone():
    wide, narrow = (difference(ONE, TWO, paired_seeds=True, level=x) for x in (0.99, 0.8))
    assert wide.low < narrow.low < narrow.effect < narrow.high < wide.high
    assert (wide.effect, wide.p) == (narrow.effect, narrow.p)


def naive(first, second, spreads, level=0.95):
    """Centre and half width, row by row and without the library's help."""
    gains = [np.mean(a) - np.mean(b) for a, b in zip(first.right.T, second.right.T, strict=True)]
    gains += [1, -1]
    centre = sum(gains) / len(gains)
    rows = math.sqrt(sum((gain - centre) ** 2 for gain in gains)) / len(gains)
    half = stats.norm.ppf((1 + level) / 2) * rows
    for of_seeds in spreads:
        t = stats.t.ppf((1 + level) / 2, len(of_seeds) - 1)
        half = math.hypot(half, t * stats.sem(of_seeds))
    return centre, half


FIRST = answers("11110110", "11100100", "11111101")
SECOND = answers("10010110", "01000100", "10101100")


def test_pairs_of_seeds_against_the_formula():
    found = difference(FIRST, SECOND, paired_seeds=True)
    gains = [6 / 8 - 4 / 8, 4 / 8 - 2 / 8, 7 / 8 - 4 / 8]
    centre, half = naive(FIRST, SECOND, [gains])
    assert found[:3] == pytest.approx((np.mean(gains), centre - half, centre + half))
    touching = difference(FIRST, SECOND, paired_seeds=True, level=1 - found.p)
    assert touching.low == pytest.approx(0, abs=1e-9)
    assert 0.01 < found.p < 0.5


def test_seeds_that_are_no_pairs_add_their_errors_up():
    found = difference(FIRST, SECOND, paired_seeds=False)
    each = [[6 / 8, 4 / 8, 7 / 8], [4 / 8, 2 / 8, 4 / 8]]
    centre, half = naive(FIRST, SECOND, each)
    assert found[1:3] == pytest.approx((centre - half, centre + half))


def test_a_single_seed_has_no_error_of_its_own():
    one = Answers(SECOND.rows, SECOND.right[:1])
    found = difference(FIRST, one, paired_seeds=False)
    centre, half = naive(FIRST, one, [[6 / 8, 4 / 8, 7 / 8]])
    assert found[1:3] == pytest.approx((max(-1, centre - half), min(1, centre + half)))


def test_these_seeds_alone():
    found = difference(FIRST, SECOND, paired_seeds=True, other_seeds=False)
    centre, half = naive(FIRST, SECOND, [])
    assert found[1:3] == pytest.approx((centre - half, centre + half))
    assert found.p < difference(FIRST, SECOND, paired_seeds=True).p


def test_the_other_way_round_has_the_other_sign():
    for paired in (True, False):
        there = difference(FIRST, SECOND, paired_seeds=paired)
        back = difference(SECOND, FIRST, paired_seeds=paired)
        assert back == pytest.approx((-there.effect, -there.high, -there.low, there.p))
    assert discordant(SECOND, FIRST) == discordant(FIRST, SECOND)[::-1] == (0, 5)


def test_equal_answers_are_no_difference_and_not_certain():
    found = difference(FIRST, FIRST, paired_seeds=True)
    assert (found.effect, found.p) == (0, 1)
    assert -1 < found.low == -found.high < -0.05


def test_a_difference_beyond_doubt():
    rows = 5000
    found = difference(
        answers("1" * rows, "1" * rows), answers("0" * rows, "0" * rows), paired_seeds=True
    )
    assert found.effect == found.high == 1
    assert found.low > 0.99
    assert 0 < found.p <= 1e-9


# Simulations. Rows differ in how hard they are, methods and seeds add noise of their own.
def pair(random, rows, seeds, *, gain=0.0, hard=2.5, of_seed=0.0):
    """Answers of two methods; ``of_seed`` is the spread of the seeds, in the units of ``hard``."""
    hardness = random.normal(0, hard, rows)
    made = []
    for shift in (gain, 0.0):
        level = shift + random.normal(0, of_seed, (seeds, 1)) + hardness
        made.append((random.logistic(size=(seeds, rows)) + level > 0).astype(float))
    names = tuple(f"{i:05}" for i in range(rows))
    return tuple(Answers(names, right) for right in made)


def truth(gain, hard=2.5, of_seed=0.0):
    """The difference of the two accuracies over all rows and seeds, by quadrature."""
    grid = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000) * math.hypot(hard, of_seed)
    return float((stats.logistic.cdf(grid + gain) - stats.logistic.cdf(grid)).mean())


def share(random, times, rows, seeds, *, gain, of_seed=0.0, change=None):
    """How often the interval covers the truth, and how often p is below 0.05."""
    true = truth(gain, of_seed=of_seed)
    covered = significant = 0
    for _ in range(times):
        first, second = pair(random, rows, seeds, gain=gain, of_seed=of_seed)
        found = difference(first, change(second) if change else second, paired_seeds=True)
        covered += found.low <= true <= found.high
        significant += found.p < 0.05
    return covered / times, significant / times


def test_coverage_and_errors_of_one_seed():
    random = np.random.default_rng(0)
    covered, significant = share(random, 600, 100, 1, gain=0.0)
    # 600 draws: three standard errors are 2.7 points. The exact test errs less often than it may.
    assert 0.92 <= covered <= 0.985
    assert 0.005 <= significant <= 0.06


def test_coverage_with_an_effect():
    covered, _ = share(np.random.default_rng(1), 600, 100, 1, gain=1.0)
    assert 0.92 <= covered <= 0.985


def test_pairing_rows_finds_what_shuffled_rows_do_not():
    def shuffled(method):
        return Answers(method.rows, np.random.default_rng(3).permutation(method.right, axis=1))

    settings = {"times": 300, "rows": 200, "seeds": 1, "gain": 0.7}
    covered, power = share(np.random.default_rng(2), **settings)
    covered_without, power_without = share(np.random.default_rng(2), **settings, change=shuffled)
    assert 0.92 <= covered <= 0.985
    assert power > 0.6
    assert power_without < power - 0.15
    assert covered_without > covered  # too wide: the hardness of rows is in it twice


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_coverage_where_seeds_are_what_differs(seeds):
    random = np.random.default_rng(seeds)
    covered, significant = share(random, 300, 400, seeds, gain=0.0, of_seed=0.7)
    assert 0.92 <= covered <= 0.99
    assert significant <= 0.07


def test_rows_alone_err_where_seeds_differ():
    random = np.random.default_rng(6)
    wrong = 0
    for _ in range(120):
        first, second = pair(random, 400, 3, of_seed=0.7)
        wrong += difference(first, second, paired_seeds=True, other_seeds=False).p < 0.05
    assert wrong / 120 > 0.4
