"""Our numbers beside the paper's, by hand."""

from __future__ import annotations

import pytest

from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.reproducing import paper
from layerbridge.reproducing.paper_comparison import compare_with_paper, comparison_grid


def result(method, right, seed=0):
    """So many of ten right, by language."""
    languages = {
        code: LanguageResult.of(
            Prediction(str(n), "yes", "yes" if n < number else "no", n < number) for n in range(10)
        )
        for code, number in right.items()
    }
    return Result(method, "made", "score", "test", seed, languages)


def test_the_average_is_over_the_papers_languages():
    table = paper.Accuracies("somewhere", {"last": 50.0}, ("en", "de"), {"last": {"de": 42.5}})
    (average, one) = compare_with_paper([result("last", {"en": 10, "de": 4, "fr": 0})], table)
    assert (average.what, one.what) == ("average of 2", "de")
    # English is among them, and French is not.
    assert average.here == pytest.approx(70)
    assert average.difference == pytest.approx(20)
    assert one.here == pytest.approx(40)
    assert one.difference == pytest.approx(-2.5)
    assert average.low < 70 < average.high
    told = comparison_grid([average, one]).markdown()
    assert "| last | average of 2 | 70.0 (" in told
    assert "| 50.00 | +20.0 |" in told
    assert "| 42.50 | −2.5 |" in told


def test_seeds_are_pooled():
    table = paper.Accuracies("somewhere", {}, None, {"last": {"de": 50.0}})
    (one,) = compare_with_paper(
        [result("last", {"de": 4}), result("last", {"de": 7}, seed=1)], table
    )
    assert one.here == pytest.approx(55)


@pytest.mark.parametrize("right", [{"en": 10}, {"de": 5, "fr": 5}])
def test_other_languages_are_not_compared(right):
    table = paper.Accuracies("somewhere", {"last": 50.0, "uniform": 1.0}, ("en", "de"), {})
    rows = compare_with_paper([result("last", right)], table)
    assert [row.here for row in rows] == [None, None]
    assert "| last | average of 2 | – | 50.00 | – |" in comparison_grid(rows).markdown()
