"""The paper's numbers: those of its abstract, and nothing that nobody has seen."""

from __future__ import annotations

import pytest

from layerbridge import tasks
from layerbridge.reproducing import catalog, paper


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
