import pytest

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
    info = task.dataset_info()
    assert (info.place, info.train, info.validation) == ("built in", 1, 1)
    assert info.test == {"en": 1, "si": 1}


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
