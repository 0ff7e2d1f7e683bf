import builtins

from layerbridge.tasks import Row
from layerbridge.training import floor
from layerbridge.training.floor import most_frequent_share, tf_idf_accuracy

WORDS = {"sun": "day", "moon": "night"}
TRAIN = [Row(str(n), f"the {w} {n}", label, "en") for n in range(4) for w, label in WORDS.items()]
OTHER = [
    Row("a", "a sun", "day", "en"),
    Row("b", "a moon", "night", "en"),
    Row("c", "?", "x", "en"),
]


def test_tf_idf_has_its_accuracy_on_the_validation_rows():
    assert tf_idf_accuracy(TRAIN, OTHER) == 2 / 3


def test_where_there_is_no_floor(monkeypatch):
    assert tf_idf_accuracy(TRAIN[::2], OTHER) is None  # one label
    assert tf_idf_accuracy([Row("0", "", "x", "en"), Row("1", "", "y", "en")], OTHER) is None
    monkeypatch.setattr(floor, "MOST_ROWS", 7)
    assert tf_idf_accuracy(TRAIN, OTHER) is None
    monkeypatch.undo()

    inner = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return inner(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    assert tf_idf_accuracy(TRAIN, OTHER) is None


def test_the_most_frequent_label():
    assert most_frequent_share([*TRAIN[:3], OTHER[0]]) == 0.75
