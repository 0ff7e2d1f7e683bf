import pytest

from layerbridge.errors import DataError
from layerbridge.evaluation.baselines.translated import in_english
from layerbridge.evaluation.translation import Translator
from layerbridge.tasks import Row, Task
from layerbridge.tasks.task import render


class Shouting(Translator):
    """Translates into capitals, with the language in front."""

    def __init__(self):
        super().__init__("nobody/nothing")
        self.asked = []

    def check(self, languages):
        for language in languages:
            if language == "sw":
                raise DataError("no Swahili")

    def into_english(self, texts, language, progress=None):
        self.asked.append((language, list(texts)))
        different = {text for text in texts if text.strip()}
        if progress is not None:
            progress(1, len(different))
            progress(len(different), len(different))
        return [f"{language} {text.upper()}" if text.strip() else text for text in texts]


class Pairs(Task):
    """Two columns in a template, a third that is in none."""

    name = "pairs"
    description = "A task of the tests."
    options = ("yes", "no")
    languages = ("en", "si", "ta", "sw")
    template = "Premise: {premise} {{Hypothesis}}: {hypothesis} Premise again: {premise}"
    licence = "none"

    def version(self):
        return "seven"

    def _train(self):
        return self._test("en")

    def _validation(self):
        return self._test("en")[:1]

    def _test(self, language):
        pairs = [("a b", "c"), ("", "c"), ("d", "c")]
        rows = []
        for n, (premise, hypothesis) in enumerate(pairs):
            fields = {"premise": premise, "hypothesis": hypothesis, "label": "yes", "note": "n"}
            text = render(self.template, fields)
            rows.append(Row(f"{language}{n}", text, "yes", language, fields))
        return rows


def test_the_columns_are_translated_and_not_the_templates_words():
    translator = Shouting()
    english = in_english(translator, Pairs(), ["si"])
    rows = english.test("si")
    assert translator.asked == [("si", ["a b", "c", "", "c", "d", "c"])]
    assert [row.text for row in rows] == [
        "Premise: si A B {Hypothesis}: si C Premise again: si A B",
        "Premise:  {Hypothesis}: si C Premise again: ",
        "Premise: si D {Hypothesis}: si C Premise again: si D",
    ]
    assert rows[0].fields == {
        "premise": "si A B", "hypothesis": "si C", "label": "yes", "note": "n",
    }  # fmt: skip
    before = Pairs().test("si")
    assert [(row.id, row.target, row.language) for row in rows] == [
        (row.id, row.target, row.language) for row in before
    ]


def test_everything_else_is_the_tasks():
    task, translator = Pairs(), Shouting()
    english = in_english(translator, task, ["en", "si"])
    assert [language for language, _ in translator.asked] == ["si"]
    assert english.test("en") == task.test("en")
    assert (english.train(), english.validation()) == (task.train(), task.validation())
    for name in ("name", "options", "languages", "template", "licence", "description"):
        assert getattr(english, name) == getattr(task, name)
    assert english.version() == "seven"


def test_a_text_that_was_not_made_of_the_columns_is_translated_whole():
    class Bare(Pairs):
        def _test(self, language):
            return [Row("0", "a text", "yes", language)]

    class Otherwise(Pairs):
        """The columns are there, and the text is made of something else."""

        def _test(self, language):
            return [Row("0", "another text", "yes", language, {"premise": "a", "hypothesis": "b"})]

    assert in_english(Shouting(), Otherwise(), ["si"]).test("si")[0].text == "si ANOTHER TEXT"
    assert in_english(Shouting(), Bare(), ["si"]).test("si")[0].text == "si A TEXT"


def test_a_users_task_with_other_names_in_its_files(tmp_path):
    from layerbridge import tasks

    rows = "language,Satz,label\nsi,a b,x\nsi,c,y\n"
    for name in ("train", "test-en", "test-si"):
        (tmp_path / f"{name}.csv").write_text(rows.replace("a b", f"a {name}"), encoding="utf-8")
    (tmp_path / "task.yaml").write_text(
        "name: mine\ntemplate: 'Text: {text} Label: '\ncolumns: {text: Satz}\nlabels: [x, y]\n"
        "files:\n  train: train.csv\n  test: {en: test-en.csv, si: test-si.csv}\n",
        encoding="utf-8",
    )
    task = tasks.get(str(tmp_path / "task.yaml"))
    english = in_english(Shouting(), task, ["si"])
    assert [row.text for row in english.test("si")] == [
        "Text: si A TEST-SI Label: ",
        "Text: si C Label: ",
    ]


def test_progress_is_over_all_languages_and_different_texts():
    message = []
    in_english(Shouting(), Pairs(), ["ta", "en", "si"], lambda *facts: message.append(facts))
    assert message == [("ta", 1, 6), ("ta", 3, 6), ("si", 4, 6), ("si", 6, 6)]


@pytest.mark.parametrize(
    ("code", "message"), [("xx", "no test rows in 'xx'"), ("sw", "no Swahili")]
)
def test_a_missing_language_is_reported_before_anything_is_translated(code, message):
    translator = Shouting()
    with pytest.raises(DataError, match=message):
        in_english(translator, Pairs(), ["si", code])
    assert translator.asked == []
