import pytest

from layerbridge import tasks
from layerbridge.errors import DataError
from layerbridge.evaluation.baselines.tf_idf import tf_idf
from layerbridge.evaluation.results import read
from layerbridge.tasks import Row, Task


class Spying(Task):
    """English training rows that give the answer away, and a note of which split was read."""

    name = "spying"
    description = "A task of the tests."
    options = ("fruit", "metal")
    languages = ("en", "si")
    template = "{text}"
    licence = "none"

    def __init__(self):
        self.read = []

    def _train(self):
        self.read.append("train")
        words = {"apple": "fruit", "pear": "fruit", "iron": "metal", "zinc": "metal"}
        return [Row(text, text, target, "en") for text, target in words.items()]

    def _validation(self):
        self.read.append("validation")
        return []

    def _test(self, language):
        self.read.append(language)
        return [Row("1", "apples", "fruit", language), Row("2", "zinc ion", "fruit", language)]


def test_it_learns_from_the_training_rows_alone():
    task = Spying()
    result = tf_idf(task, seed=3)
    assert sorted(task.read) == ["en", "si", "train"]
    assert [answer.prediction for answer in result.languages["si"].predictions] == [
        "fruit",
        "metal",
    ]
    assert [answer.correct for answer in result.languages["si"].predictions] == [True, False]
    assert (result.method, result.protocol, result.split, result.seed) == (
        "tf-idf",
        "classifier",
        "test",
        3,
    )


def test_empty_texts_are_counted(monkeypatch, capsys):
    rows = [Row("1", "", "fruit", "si"), Row("2", "zinc", "fruit", "si")]
    monkeypatch.setattr(Spying, "_test", lambda self, language: rows)
    assert tf_idf(Spying(), ["si"]).text_counts == {"si": {"empty": 1}}
    assert capsys.readouterr().err == "empty texts: 1 of 2 in si\n"


def test_an_unknown_language_is_reported_before_the_fit():
    task = Spying()
    with pytest.raises(DataError, match="no test rows in 'xx'"):
        tf_idf(task, ["xx"])
    assert task.read == []


def test_names(tmp_path):
    task = tasks.get("names")
    result = tf_idf(task)
    accuracy = {code: entry.accuracy for code, entry in result.languages.items()}
    assert list(accuracy) == list(task.languages)
    # Well above chance (16.7 %) in English, little above it in the scripts it has never seen.
    assert 0.60 <= accuracy["en"] <= 0.78
    assert 0.20 <= result.average_non_english().accuracy <= 0.38
    assert accuracy["zh"] < 0.25
    assert [p.id for p in result.languages["si"].predictions] == [r.id for r in task.test("si")]
    assert read(result.write(tmp_path / "floor.json")) == result


def test_twice_is_the_same():
    task = tasks.get("names", train_per_kind=8)
    assert tf_idf(task, ["sw"]).languages == tf_idf(task, ["sw"]).languages
