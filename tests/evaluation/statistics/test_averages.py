import math

import numpy as np
import pytest
from scipy import stats

from layerbridge.errors import ResultError
from layerbridge.evaluation.statistics.averages import average_difference
from layerbridge.evaluation.statistics.paired import difference
from layerbridge.evaluation.statistics.seeds import Answers
from made_results import answers


def methods(random, languages, rows, seeds, *, gain=0.0, shared=True, of_seed=0.0, differing=0.0):
    """Two methods' answers by language: normal hardness of rows, errors of seeds and languages."""
    common = random.normal(0, 1, (rows, 1)) * shared
    hardness = common + random.normal(0, 1, (rows, languages))
    made = []
    for shift in (gain, 0.0):
        level = shift + shift * differing * random.normal(0, 1, languages)
        level = level + random.normal(0, of_seed, (seeds, 1, 1))
        right = level + hardness + random.normal(0, 1, (seeds, rows, languages)) > 0
        names = [
            tuple(f"{'' if shared else code}{i:05}" for i in range(rows))
            for code in range(languages)
        ]
        made.append(
            {f"{c:02}": Answers(names[c], right[:, :, c].astype(float)) for c in range(languages)}
        )
    return made


def test_one_language_is_its_difference_and_says_nothing_of_others():
    first, second = methods(np.random.default_rng(0), 1, 30, 3)
    found = average_difference(first, second, paired_seeds=True)
    assert found.these == difference(first["00"], second["00"], paired_seeds=True)
    assert found.others is None


def test_every_language_counts_the_same():
    first = {"si": answers("1111", rows="abcd"), "ta": answers("10" * 50)}
    second = {"si": answers("1110", rows="abcd"), "ta": answers("10" * 50)}
    found = average_difference(first, second, paired_seeds=True)
    assert found.these.effect == found.others.effect == 0.125


def test_one_seed_with_rows_of_their_own_against_the_normal_formula():
    first, second = methods(np.random.default_rng(1), 6, 200, 1, gain=0.3, shared=False)
    found = average_difference(first, second, paired_seeds=True).these
    gains = [first[code].right[0] - second[code].right[0] for code in first]
    error = math.sqrt(sum(gain.var() / 200 for gain in gains)) / 6
    mean = np.mean(gains)
    assert found.effect == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx(
        (mean - 1.96 * error, mean + 1.96 * error), abs=0.06 * error
    )
    assert found.p == pytest.approx(2 * stats.norm.sf(mean / error), abs=0.01)


def test_a_row_that_languages_share_is_one_row():
    first, second = methods(np.random.default_rng(2), 1, 80, 1)
    once = average_difference(
        {"si": first["00"], "ta": first["00"]}, {"si": second["00"], "ta": second["00"]},
        paired_seeds=True,
    )  # fmt: skip
    gains = first["00"].right[0] - second["00"].right[0]
    half = 1.96 * gains.std() / math.sqrt(80)
    assert (once.these.high - once.these.low) / 2 == pytest.approx(half, rel=0.06)
    # Languages that do not differ say that others would not, either.
    assert once.others == once.these


def test_seeds_and_languages_widen_it():
    random = np.random.default_rng(3)
    first, second = methods(random, 8, 200, 3, gain=0.4, of_seed=0.3, differing=1.0)
    found = average_difference(first, second, paired_seeds=True)
    alone = average_difference(first, second, paired_seeds=True, other_seeds=False)
    widths = [each.high - each.low for each in (alone.these, found.these, found.others)]
    assert widths[0] < widths[1] < widths[2]
    assert alone.these.p < found.these.p <= found.others.p
    by_seed = [np.mean([of[code].by_seed for code in of], axis=0) for of in (first, second)]
    reach = stats.t.ppf(0.975, 2) * stats.sem(by_seed[0] - by_seed[1])
    assert widths[1] > 1.95 * reach


def test_the_other_way_round_has_the_other_sign():
    first, second = methods(np.random.default_rng(4), 5, 60, 3, gain=0.4)
    there = average_difference(first, second, paired_seeds=True).these
    back = average_difference(second, first, paired_seeds=True).these
    assert back.effect == -there.effect
    # Rows are the same draws turned round; the seeds' errors are drawn and are not.
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), rel=0.1)


def test_order_changes_nothing_and_the_seed_does():
    first, second = methods(np.random.default_rng(5), 4, 40, 2)
    turned = [dict(reversed(of.items())) for of in (first, second)]
    one = average_difference(first, second, paired_seeds=True)
    assert average_difference(*turned, paired_seeds=True) == one
    assert average_difference(first, second, paired_seeds=True) == one
    assert average_difference(first, second, paired_seeds=True, seed=1) != one


def test_no_languages():
    with pytest.raises(ResultError) as error:
        average_difference({}, {}, paired_seeds=True)
    assert str(error.value) == "there are no languages to average over; allowed: one or more"


@pytest.mark.parametrize(
    ("seeds", "of_seed", "shared"), [(1, 0.0, True), (1, 0.0, False), (3, 0.3, True)]
)
def test_coverage_in_these_languages(seeds, of_seed, shared):
    random = np.random.default_rng(7)
    covered = 0
    for _ in range(150):
        first, second = methods(random, 5, 60, seeds, of_seed=of_seed, shared=shared)
        found = average_difference(first, second, paired_seeds=True, draws=500).these
        covered += found.low <= 0 <= found.high
    # 150 draws: three standard errors are 5.3 points.
    assert 0.9 <= covered / 150 <= 0.995


def test_coverage_of_other_languages():
    random = np.random.default_rng(8)
    gain, differing = 0.5, 1.0
    # Φ of the level over rows, seeds' noise and languages, less 1/2 for the second method.
    truth = stats.norm.cdf(gain / math.sqrt(3 + (gain * differing) ** 2)) - 0.5
    covered = by_these = 0
    for _ in range(150):
        first, second = methods(random, 10, 100, 1, gain=gain, differing=differing)
        found = average_difference(first, second, paired_seeds=True, draws=500)
        covered += found.others.low <= truth <= found.others.high
        by_these += found.these.low <= truth <= found.these.high
    assert 0.9 <= covered / 150 <= 0.995
    assert by_these / 150 < 0.8


def test_drawing_shared_rows_apart_is_too_sure():
    random = np.random.default_rng(9)
    covered = {True: 0, False: 0}
    for _ in range(150):
        first, second = methods(random, 12, 40, 1)
        # The first method is better on rows of one kind, in all languages alike.
        better = random.random(40) < 0.5
        tilt = [
            {
                code: Answers(of[code].rows, np.where(better == won, of[code].right, 0))
                for code in of
            }
            for of, won in ((first, True), (second, False))
        ]
        for together in covered:
            given = tilt
            if not together:
                given = [
                    {
                        code: Answers(tuple(code + row for row in a.rows), a.right)
                        for code, a in of.items()
                    }
                    for of in tilt
                ]
            found = average_difference(*given, paired_seeds=True, draws=500).these
            covered[together] += found.low <= 0 <= found.high
    assert covered[True] / 150 >= 0.87
    assert covered[False] / 150 < 0.75
