"""The paper's numbers, against one another."""

from __future__ import annotations

import pytest

from layerbridge import tasks
from layerbridge.benchmarking.latency import TRANSLATE
from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.reproducing import catalog, paper
from layerbridge.reproducing.paper import compare_with_paper, comparison_grid


def test_what_the_abstract_says():
    xnli, news = paper.accuracies("table1"), paper.accuracies("table3")
    assert (xnli.averages["last"], xnli.averages["token-softmax"]) == (70.36, 71.50)
    assert (news.languages["last"]["si"], news.languages["token-softmax"]["si"]) == (71.66, 75.86)


@pytest.mark.parametrize("name", [f"table{number}" for number in range(1, 5)])
def test_the_tables_are_whole_and_their_averages_right(name):
    """A number that was copied wrongly would move the mean of its row."""
    found = paper.accuracies(name)
    assert found.source.startswith("Table ")
    assert tuple(found.languages) == tuple(catalog.preset("paper").fusions)
    codes = tasks.get(catalog.experiment(name).task).languages
    for method, languages in found.languages.items():
        # The paper's table of IndicXNLI has no English.
        assert sorted(languages) == sorted(codes[1:] if name == "table2" else codes)
        assert all(20 < accuracy < 100 for accuracy in languages.values())
        if name == "table3":
            assert (found.averages, found.averaged) == ({}, ())
            continue
        assert sorted(found.averaged) == sorted(languages)
        mean = sum(languages.values()) / len(languages)
        assert found.averages[method] == pytest.approx(mean, abs=0.0051)


@pytest.mark.parametrize("name", ["table5", "figure2", "xsid", "sib200"])
def test_what_is_no_table_of_accuracies(name):
    assert paper.accuracies(name) is None


def test_times():
    times = paper.times()
    assert {name: round(over, 2) for name, over in times.over_last.items()} == {
        TRANSLATE: 9.69,
        "last": 1.0,
        "global-softmax": 0.98,
        "token-softmax": 1.05,
    }
    assert times.peak_mb.keys() == times.ms_per_token.keys()
    assert round(times.peak_mb["token-softmax"] / 1000, 1) == 11.5


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
    table = paper.Accuracies("somewhere", {}, (), {"last": {"de": 50.0}})
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
