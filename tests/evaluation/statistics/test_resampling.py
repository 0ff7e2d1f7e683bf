import numpy as np
import pytest
from scipy import stats

from layerbridge.evaluation.statistics import resampling
from layerbridge.evaluation.statistics.resampling import (
    draw_error,
    draw_means,
    p_value,
    percentile_interval,
)
from layerbridge.evaluation.statistics.seeds import Spread

VALUES = [float(value) for value in np.random.default_rng(0).integers(-1, 2, 40)]


def rows(values, prefix=""):
    return {f"{prefix}{i:03}": value for i, value in enumerate(values)}


def test_draws_are_the_bootstrap_of_the_mean():
    drawn = draw_means({"si": rows(VALUES)})["si"]
    assert drawn.shape == (10_000,)
    assert drawn.mean() == pytest.approx(np.mean(VALUES), abs=4 * drawn.std() / 100)
    assert drawn.var() == pytest.approx(np.var(VALUES) / 40, rel=0.06)


def test_shared_rows_are_drawn_together_and_others_apart():
    shared = draw_means({"si": rows(VALUES), "ta": rows(VALUES)})
    assert np.array_equal(shared["si"], shared["ta"])
    apart = draw_means({"si": rows(VALUES, "si"), "ta": rows(VALUES, "ta")})
    assert abs(np.corrcoef(apart["si"], apart["ta"])[0, 1]) < 0.05


def test_half_of_the_rows_shared():
    other = rows(VALUES[:20]) | rows(VALUES[20:], "ta")
    drawn = draw_means({"si": rows(VALUES), "ta": other})
    expected = np.var(VALUES[:20]) / (np.var(VALUES[:20]) + np.var(VALUES[20:]))
    assert np.corrcoef(drawn["si"], drawn["ta"])[0, 1] == pytest.approx(expected, abs=0.08)
    assert drawn["si"].var() == pytest.approx(np.var(VALUES) / 40, rel=0.1)


def test_a_chain_of_shared_rows_is_one_group():
    # si and ta share nothing, and each shares rows with am, which comes last but one.
    given = {
        "si": rows([1.0, 0.0], "a"),
        "zu": rows([1.0, 0.0], "b"),
        "ta": rows([1.0, 0.0], "c"),
        "am": rows([1.0, 0.0], "a") | rows([1.0, 0.0], "c"),
    }
    assert sorted(resampling._groups(given)) == [("am", "si", "ta"), ("zu",)]


def test_a_language_of_one_row_among_many():
    drawn = draw_means({"si": rows(VALUES), "ta": {"000": 0.5}})
    assert np.array_equal(drawn["ta"], np.full(10_000, 0.5))


def test_order_changes_nothing_and_the_seed_does():
    given = {"si": rows(VALUES), "ta": rows(VALUES[::-1]), "am": rows(VALUES, "am")}
    turned = {code: dict(reversed(of.items())) for code, of in reversed(given.items())}
    one, same, other = draw_means(given), draw_means(turned), draw_means(given, seed=1)
    for code in given:
        assert np.array_equal(one[code], same[code])
        assert not np.array_equal(one[code], other[code])


def test_other_languages_do_not_move_the_draws():
    alone = draw_means({"si": rows(VALUES, "si")})
    beside = draw_means({"si": rows(VALUES, "si"), "am": rows(VALUES, "am")})
    assert np.array_equal(alone["si"], beside["si"])


def test_blocks_change_nothing(monkeypatch):
    whole = draw_means({"si": rows(VALUES)}, draws=100)["si"]
    monkeypatch.setattr(resampling, "_BLOCK", 40 * 7)
    assert np.array_equal(draw_means({"si": rows(VALUES)}, draws=100)["si"], whole)


def test_errors_are_students_t():
    drawn = draw_error(Spread(0.03, 2), 10_000, 0, "seeds")
    low, high = stats.t.interval(0.95, 2, scale=0.03)
    assert percentile_interval(drawn) == pytest.approx((low, high), rel=0.01)
    other = draw_error(Spread(0.03, 2), 10_000, 0, "languages")
    assert sorted(drawn) == sorted(other)
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.1


def test_ends_are_the_middle_of_the_draws():
    assert percentile_interval(np.arange(101.0), level=0.9) == pytest.approx((5, 95))


@pytest.mark.parametrize(
    ("drawn", "p"),
    [
        ([-1, 1, 2, 3], 2 * 2 / 5),  # one of four below 0, and one more for the sample itself
        ([1, 2, 3, 4], 2 * 1 / 5),
        ([-1, -2, -3, 4], 2 * 2 / 5),
        ([0, 0, 0, 0], 1),
        ([1e-17, 1, 1, 1, 1, 1, 1], 2 * 2 / 8),  # a zero, but for rounding
    ],
)
def test_p_value_by_hand(drawn, p):
    assert p_value(np.array(drawn, dtype=float)) == pytest.approx(p)
