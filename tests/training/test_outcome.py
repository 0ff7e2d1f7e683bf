import dataclasses

import pytest

from layerbridge.training.outcome import Outcome

GOOD = Outcome(100, loss=0.5, accuracy=0.8, tf_idf=0.6, most_frequent=0.2)


def test_a_good_run_is_summed_up_and_not_doubted():
    assert GOOD.summary() == (
        "English validation, 100 rows: accuracy 80.0%, loss 0.500; for comparison: TF-IDF 60.0%, "
        "always the most frequent label 20.0%"
    )
    assert GOOD.doubts() == []
    assert (
        dataclasses.replace(GOOD, tf_idf=None)
        .summary()
        .endswith("for comparison: always the most frequent label 20.0%")
    )
    assert Outcome(7, loss=1.25).summary() == "validation loss 1.250 (7 rows)"
    assert Outcome(0).summary() is None


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"accuracy": 0.2}, "the bridge did not take off: on English validation rows it is no "),
        ({"accuracy": 0.27}, "the bridge did not take off: "),
        ({"accuracy": 0.45}, "TF-IDF of characters is better in English than the bridge"),
        (
            {"accuracy": None, "losses": [3.0, 2.9, 2.8, 2.9]},
            "the bridge did not take off: the training loss has not fallen",
        ),
        ({"weights": [0.005, 0.99, 0.005]}, "layer 2 has 99.0% of the weight: the bridge uses no"),
        ({"weights": [0.0, 0.01, 0.99], "first_layer": 0}, "layer 2 has 99.0% of the weight"),
    ],
)
def test_a_run_in_doubt_says_so_in_one_line(changes, doubt):
    (said,) = dataclasses.replace(GOOD, **changes).doubts()
    assert said.startswith(doubt)
    assert "--" in said  # what to try
    assert "\n" not in said


@pytest.mark.parametrize(
    "changes",
    [
        {"accuracy": 0.3, "tf_idf": 0.25},  # 2.5 standard deviations above the most frequent
        {"accuracy": 0.55},  # within luck of TF-IDF
        {"accuracy": None, "losses": [3.0, 2.0, 1.0, 0.5]},
        {"accuracy": None, "losses": [3.0, 2.9]},  # too early to tell
        {"weights": [0.05, 0.95]},
        {"weights": [1.0]},  # an encoder of one layer
        {"weights": []},
    ],
)
def test_what_is_no_doubt(changes):
    assert dataclasses.replace(GOOD, **changes).doubts() == []
