import pytest

from layerbridge import tasks
from layerbridge.errors import DataError
from layerbridge.tasks.task import Row, Task, rename_columns, render, template_columns


class Toy(Task):
    name = "toy"
    description = "A task of the tests."
    options = ("yes", "no")
    languages = ("en", "si")
    template = "{text}"
    licence = "none"

    def __init__(self, train_language="en"):
        self.train_language = train_language

    def _train(self):
        return [Row("1", "a", "yes", self.train_language)]

    def _validation(self):
        return [Row("2", "b", "no", "en")]

    def _test(self, language):
        return [Row("3", "c", "yes", language)]


def test_each_split_gives_its_rows():
    task = Toy()
    assert [row.id for row in task.train()] == ["1"]
    assert [row.id for row in task.validation()] == ["2"]
    assert [row.language for row in task.test("si")] == ["si"]
    assert task.version() == ""
    assert task.dropped() == {}
    holdings = task.holdings()
    assert (holdings.place, holdings.train, holdings.validation) == ("built in", 1, 1)
    assert holdings.test == {"en": 1, "si": 1}


def test_training_rows_of_another_language_are_a_bug():
    with pytest.raises(AssertionError, match="English only"):
        Toy("si").train()


def test_unknown_language():
    with pytest.raises(DataError) as error:
        Toy().test("xx")
    assert str(error.value) == "the task toy has no test rows in 'xx'; allowed: en, si"


def test_render():
    fields = {"premise": "A {b}.", "the.text": "C"}
    assert render("P: {premise} H: {the.text} {{x}}", fields) == "P: A {b}. H: C {x}"
    assert template_columns("{a} {b} {a} {{c}}") == ("a", "b")


def test_rename_columns():
    renamed = rename_columns("{{x}} {a}, {b}: {a}", {"a": "the text", "c": "d"})
    assert renamed == "{{x}} {the text}, {b}: {the text}"
    assert render(renamed, {"the text": "A", "b": "B"}) == "{x} A, B: A"


def test_template_with_an_unknown_column():
    with pytest.raises(DataError) as error:
        render("{premise} {other}", {"premise": "A", "hypothesis": "B"})
    assert str(error.value) == (
        "the template '{premise} {other}' names 'other', which is not a column; "
        "allowed: premise, hypothesis"
    )


def test_a_template_reaches_no_attributes():
    with pytest.raises(DataError, match="not a column"):
        render("{a.__class__}", {"a": "A"})


@pytest.mark.parametrize("template", ["{a", "a}", "{}", "{a!r}", "{a:>4}"])
def test_malformed_template(template):
    with pytest.raises(DataError, match="is malformed"):
        render(template, {"a": "A"})


def test_registry():
    known = ("names", "xnli", "indicxnli", "sinhala-news", "amazon-reviews", "xsid", "sib200")
    assert tasks.names() == known
    for name in known:
        assert tasks.get(name).name == name
    assert tasks.get("names", languages=["si"]).languages == ("en", "si")
    assert tasks.names() == known  # no module of that name has taken its place


def test_unknown_task():
    with pytest.raises(DataError) as error:
        tasks.get("nmaes")
    assert str(error.value) == (
        "there is no task 'nmaes'; allowed: names, xnli, indicxnli, sinhala-news, amazon-reviews, "
        "xsid, sib200, or a YAML file of your own"
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
    assert tasks.option_names("mine.yaml") == benchmark[1:]
