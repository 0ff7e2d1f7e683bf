"""The paper's numbers: those of its abstract, and nothing that nobody has seen."""

from __future__ import annotations

import pytest

from layerbridge import tasks
from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.reproducing import catalog, paper
from layerbridge.reproducing.paper import compare_with_paper, comparison_grid


def test_what_the_abstract_says():
    xnli, news = paper.accuracies("table1"), paper.accuracies("table3")
    assert xnli.averages == {"last": 70.36, "token-softmax": 71.50}
    assert xnli.averaged == tasks.get("xnli").languages
    assert not any(xnli.languages.values())
    assert news.averages == {}
    assert news.languages["last"] == {"si": 71.66}
    assert news.languages["token-softmax"] == {"si": 75.86}
    assert "abstract" in xnli.source


def test_what_is_not_known_is_not_there():
    for name in ("table2", "table4"):
        found = paper.accuracies(name)
        assert (found.source, found.averages) == (None, {})
        assert not any(found.languages.values())


@pytest.mark.parametrize("name", catalog.experiments())
def test_a_number_has_a_source(name):
    found = paper.accuracies(name)
    if found is not None and (found.averages or any(found.languages.values())):
        assert found.source
    if not name.startswith("table"):
        assert found is None


def test_times():
    assert paper.times().over_last == {"token-softmax": 1.05}
    assert paper.times().peak_gb == 11.5


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


def test_languages_that_share_items_tell_no_more_than_one():
    """The ten rows are the same in both languages, which answer alike."""
    table = paper.Accuracies("somewhere", {"last": 50.0}, ("en", "de"), {"last": {"de": 50.0}})
    average, one = compare_with_paper([result("last", {"en": 4, "de": 4})], table)
    assert (average.low, average.high) == pytest.approx((one.low, one.high))


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
