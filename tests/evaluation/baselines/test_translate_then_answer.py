import pytest

from layerbridge.errors import ConfigError, DataError
from layerbridge.evaluation.baselines.few_shot import few_shot
from layerbridge.evaluation.baselines.translate_then_answer import translate_then_answer
from layerbridge.evaluation.baselines.translated import in_english
from layerbridge.evaluation.baselines.zero_shot import zero_shot
from layerbridge.evaluation.results import read
from layerbridge.evaluation.translation import Translator, translator
from layerbridge.models.backbone import LoadOptions
from layerbridge.report.tables import accuracy_table
from layerbridge.tasks import Row, Task
from layerbridge.tasks.task import render

OPTIONS = ("b", "on", "the")
NAMES = ["ම ශ්‍රී ලංකා", "the market", "தமிழ்", "rose while", "teams, in the ලක", "zebra"]


class Named(Task):
    """Names in a template."""

    name = "named"
    description = "A task of the tests."
    options = OPTIONS
    languages = ("en", "si", "ta", "gsw")
    template = "Name: {name}"
    licence = "none"

    def _train(self):
        return self._test("en")

    def _validation(self):
        raise AssertionError("no choice is made here")

    def _test(self, language):
        rows = []
        for n, name in enumerate(NAMES):
            fields = {"name": name}
            text = render(self.template, fields)
            rows.append(Row(f"{language}-{n}", text, OPTIONS[n % 3], language, fields))
        return rows


@pytest.fixture
def make(translator_folder):
    def build(**settings):
        options = LoadOptions(dtype="float32")
        return Translator(
            str(translator_folder("nllb")), options=options, max_new_tokens=12, **settings
        )

    return build


def test_the_language_model_is_asked_about_the_english(make, load_lm):
    lm = load_lm("gpt2")
    result = translate_then_answer(make(), lm, Named(), ["en", "si", "ta"])
    english = in_english(make(), Named(), ["en", "si", "ta"])
    assert english.test("si") != Named().test("si")
    assert result.languages == zero_shot(lm, english, ["en", "si", "ta"]).languages
    untranslated = zero_shot(lm, Named(), ["en", "si", "ta"])
    assert result.languages["en"] == untranslated.languages["en"]
    assert result.languages["si"] != untranslated.languages["si"]


def test_with_examples(make, load_lm):
    lm = load_lm("gpt2")
    result = translate_then_answer(make(), lm, Named(), ["si"], shots=3, seed=2)
    english = in_english(make(), Named(), ["si"])
    assert result.languages == few_shot(lm, english, ["si"], shots=3, seed=2).languages
    assert (result.method, result.seed) == ("translate + few-shot LM (3)", 2)
    assert len(result.settings["shots"]) == 3


def test_what_the_result_remembers(make, load_lm, translator_folder, tmp_path):
    translated, answered = [], []
    result = translate_then_answer(
        make(num_beams=2, batch_size=4), load_lm("llama"), Named(), ["en", "si"], batch_size=4,
        translating=lambda *facts: translated.append(facts),
        progress=lambda *facts: answered.append(facts),
    )  # fmt: skip
    assert translated == [("si", 4, 6), ("si", 6, 6)]
    assert answered == [("en", 4, 12), ("en", 6, 12), ("si", 10, 12), ("si", 12, 12)]
    assert (result.method, result.task, result.protocol) == (
        "translate + zero-shot LM",
        "named",
        "score",
    )
    assert result.settings["translator"] == {
        "model": translator_folder("nllb").name,
        "num_beams": 2,
        "max_new_tokens": 12,
    }
    assert read(result.write(tmp_path / "translate.json")) == result
    # The same rows and protocol: it stands beside the others.
    accuracy_table([result, zero_shot(load_lm("llama"), Named(), ["en", "si"])])


def test_with_and_without_examples_translate_once(make, load_lm, monkeypatch, tmp_path):
    lm = load_lm("gpt2")
    first = translate_then_answer(make(folder=tmp_path), lm, Named(), ["si"])
    monkeypatch.setattr(translator, "load_weights", lambda *_: pytest.fail("read"))
    again = translate_then_answer(make(folder=tmp_path), lm, Named(), ["si"])
    assert again.languages == first.languages
    translate_then_answer(make(folder=tmp_path), lm, Named(), ["si"], shots=2)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"languages": ["si", "xx"]}, DataError, "no test rows in 'xx'"),
        ({"languages": ["si", "gsw"]}, DataError, "does not support 'gsw'"),
        ({"prompt": "no place"}, ConfigError, "has 0 placeholders {text}"),
        ({"shots": -1}, ConfigError, "shots is -1; allowed: 0 or more"),
        ({"shots": 7}, DataError, "has 6 training rows for 7 shots"),
    ],
)
def test_mistakes_are_reported_before_anything_is_translated(
    make, load_lm, monkeypatch, settings, error, message
):
    monkeypatch.setattr(translator, "load_weights", lambda *_: pytest.fail("read"))
    settings = {"languages": ["si"], **settings}
    with pytest.raises(error, match=message):
        translate_then_answer(make(), load_lm("llama"), Named(), **settings)
