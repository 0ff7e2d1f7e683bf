import numpy as np
import pytest

from layerbridge.errors import ResultError
from layerbridge.evaluation.comparison import (
    averaged_languages,
    check_comparable,
    methods,
    ordered_languages,
    repeated_seed,
)
from made_results import result


def test_seeds_are_one_method_by_seed():
    given = [result("b", 2, si="10"), result("a", 0, si="11"), result("b", 0, si="01")]
    found = methods(given)
    assert list(found) == ["b", "a"]
    assert found["b"].seeds == (0, 2)
    assert np.array_equal(found["b"].answers("si").right, [[0, 1], [1, 0]])
    assert found["a"].seeds == (0,)


def test_rows_are_called_by_their_items():
    (found,) = methods([result("a", si="10", items="unit {i}")]).values()
    assert found.answers("si").rows == ("unit 0", "unit 1")


def test_rows_of_seeds_are_matched_by_id():
    one = result("a", 0, si="110")
    turned = result("a", 1, si="100")
    turned.languages["si"].__dict__["predictions"] = turned.languages["si"].predictions[::-1]
    (found,) = methods([one, turned]).values()
    assert np.array_equal(found.answers("si").right, [[1, 1, 0], [1, 0, 0]])


def test_languages_are_those_of_every_seed():
    (found,) = methods(
        [result("a", 0, en="1", si="1", ta="1"), result("a", 1, ta="1", en="0")]
    ).values()
    assert found.languages == ("en", "ta")


def test_the_same_answers_twice_count_once():
    given = [result("floor", run=None, si="10"), result("floor", run="elsewhere", si="10")]
    assert repeated_seed(given) is None
    assert methods(given)["floor"].seeds == (0,)


@pytest.mark.parametrize("other", [{"si": "11"}, {"ta": "10"}])
def test_two_different_results_of_one_seed(other):
    given = [result("a", 3, run="runs/x", si="10"), result("a", 3, run="runs/y", **other)]
    assert repeated_seed(given) == tuple(given)
    with pytest.raises(ResultError) as error:
        methods(given)
    assert str(error.value) == (
        "a has two different results with seed 3 (runs/x and runs/y); "
        "allowed: one result per seed of a method; next: give each a name with NAME=RUN"
    )


def test_two_rows_with_one_id():
    (found,) = methods([result("a", si="101", ids="row")]).values()
    with pytest.raises(ResultError) as error:
        found.answers("si")
    assert str(error.value) == (
        "a has 3 rows in si but 1 different ids; allowed: a unique id per row; "
        "next: give every row its own id and evaluate again"
    )


def test_two_rows_with_one_item():
    (found,) = methods([result("a", si="101", items="item")]).values()
    with pytest.raises(ResultError, match="a has 3 rows in si but 1 different items; allowed: a u"):
        found.answers("si")


def test_results_that_pair_the_same_rows_otherwise():
    given = [result("a", si="101", items="{i}"), result("b", si="101", items="{code}/{i}")]
    with pytest.raises(ResultError) as error:
        check_comparable(given)
    assert str(error.value) == (
        "a and b were tested on different rows in si: 3 and 3; "
        "row 'si/0': item '0' and item 'si/0'; allowed: the same rows for every result; "
        "next: evaluate both with the same task, options and versions"
    )


def test_languages_of_a_table():
    given = [result("a", si="1", en="1", ta="1"), result("b", am="1", ta="1", en="1")]
    assert ordered_languages(given) == ("en", "si", "ta", "am")
    assert averaged_languages(given) == ("ta",)
