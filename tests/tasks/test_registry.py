import pytest

from layerbridge import tasks
from layerbridge.errors import DataError
from layerbridge.tasks import registry
from layerbridge.tasks.task import Row, Task


def test_known_tasks():
    known = (
        *("names", "xnli", "indicxnli", "sinhala-news", "amazon-reviews", "xsid", "sib200"),
        "masakhanews",
    )
    assert tasks.names() == known
    for name in known:
        assert tasks.get(name).name == name
    assert tasks.get("names", languages=["si"]).languages == ("en", "si")
    assert tasks.names() == known  # no module of that name has taken its place


def test_unknown_task():
    with pytest.raises(DataError) as error:
        tasks.get("nmaes")
    assert str(error.value) == (
        "unknown task 'nmaes'; allowed: names, xnli, indicxnli, sinhala-news, amazon-reviews, "
        "xsid, sib200, masakhanews, or a YAML file of your own"
    )


def test_unknown_option():
    with pytest.raises(DataError) as error:
        tasks.get("names", sed=1)
    assert str(error.value) == (
        "the task names has no option 'sed'; "
        "allowed: languages, train_per_kind, test_per_kind, seed"
    )


def test_option_names():
    assert tasks.option_names("names") == (
        "languages", "train_per_kind", "test_per_kind", "seed"
    )  # fmt: skip
    benchmark = ("data_dir", "languages", "train_per_label", "max_test")
    for name in tasks.names()[1:]:
        assert tasks.option_names(name) == benchmark
    assert tasks.option_names("mine.yaml") == (*benchmark[1:], "skip_unknown_labels")


class Toy(Task):
    name = "toy"
    description = "A task of the tests."
    options = ("yes", "no")
    languages = ("en",)
    template = "{text}"
    licence = "none"

    def __init__(self, size: int = 1):
        self.size = size

    def _train(self):
        return [Row(str(n), "a", "yes", "en") for n in range(self.size)]

    _validation = _train

    def _test(self, language):
        return self._train()


@pytest.fixture
def registered(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_registered", {})


def test_a_registered_task(registered):
    tasks.register("toy", Toy)
    assert tasks.names()[-1] == "toy"
    assert tasks.option_names("toy") == ("size",)
    assert len(tasks.get("toy", size=3).train()) == 3
    with pytest.raises(DataError) as caught:
        tasks.get("toy", sise=3)
    assert str(caught.value) == "the task toy has no option 'sise'; allowed: size"


@pytest.mark.parametrize(
    ("name", "maker", "message"),
    [
        ("xnli", Toy, "the task name 'xnli' is taken; next: choose another name"),
        ("toy", Toy, "the task name 'toy' is taken; next: choose another name"),
        (
            "mine.yaml",
            Toy,
            "the task name is 'mine.yaml'; allowed: a name that does not end in .yaml or .yml",
        ),
        (" ", Toy, "the task name is ' '; allowed: a name that does not end in .yaml or .yml"),
        (
            "new",
            "Toy",
            "the maker of the task 'new' is 'Toy'; allowed: a Task subclass, or a function that "
            "returns a task",
        ),
    ],
)
def test_what_cannot_be_registered(registered, name, maker, message):
    tasks.register("toy", Toy)
    with pytest.raises(DataError) as caught:
        tasks.register(name, maker)
    assert str(caught.value) == message
    assert tasks.names()[-1] == "toy"
