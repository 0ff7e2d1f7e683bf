"""evaluate(center=…), on a bridge whose answers depend on the language means."""

import pytest
from small_task import SmallTask

from layerbridge.errors import ConfigError
from layerbridge.evaluation.centering import check_center
from layerbridge.evaluation.evaluator import evaluate
from layerbridge.evaluation.method_names import distinguish
from layerbridge.evaluation.results import read
from layerbridge.models.centering import Centering, CenteringSettings
from layerbridge.models.language_means import LanguageMean, LanguageMeans, TextMeans

OPTIONS = ("s", "en", "the", "a", "on", "no")
TEXTS = {
    "en": ["the market rose", "teams entertained the crowd " * 5, "Premise", "a b c", "of"],
    "si": ["ශ්‍රී ලංකා", "ම", "ම ශ් " * 8, "මම", "ශ්"],
    "ar": ["ال سوق", "x", "ال ال"],
}


class Small(SmallTask):
    """A few rows in three languages."""

    options = OPTIONS
    texts = TEXTS


WHOLE = CenteringSettings(shrink=False)


@pytest.fixture
def bridge(make_bridge):
    return make_bridge("mt5", "llama", "last")


def means_of(bridge, languages):
    means = LanguageMeans(tuple(bridge.fusion.required_layers))
    for code in languages:
        found = TextMeans.read(bridge.encoder, TEXTS[code], means.layers)
        means = means.with_language(code, LanguageMean.of(found))
    return means


def knowing(bridge, *languages, settings=WHOLE):
    bridge.centering = Centering(means_of(bridge, languages), 3, settings)
    return bridge


def answers(result):
    return {code: [p.prediction for p in of.predictions] for code, of in result.languages.items()}


def classified(bridge, code, **arguments):
    found = bridge.classify(TEXTS[code], OPTIONS, **arguments)
    return [answer.choice for answer in found]


def test_known_means_give_the_answers_of_a_told_language(bridge, capsys):
    plain = evaluate(bridge, Small())
    knowing(bridge, "en", "si")
    result = evaluate(bridge, Small(), batch_size=2)
    assert capsys.readouterr().err == "no language mean of ar: their states stay as they are\n"
    assert answers(result)["si"] == classified(bridge, "si", language="si")
    assert answers(result)["en"] == answers(plain)["en"]
    assert answers(result)["ar"] == answers(plain)["ar"]
    assert answers(result)["si"] != answers(plain)["si"]
    assert answers(evaluate(bridge, Small(), center="none")) == answers(plain)


def test_nearest_means_give_the_answers_of_a_text_on_its_own(bridge):
    knowing(bridge, "en", "si")
    result = evaluate(bridge, Small(), center="nearest", batch_size=2)
    for code in TEXTS:
        assert answers(result)[code] == classified(bridge, code, batch_size=1)
    told = bridge.centering.nearest(bridge.encoder.encode(TEXTS["si"]))
    means = result.settings["language_means"]
    assert means["si"]["recognized"] == told.count("si") / 5
    assert set(means) == {"en", "si"}


def test_a_batch_is_moved_by_its_own_means(bridge):
    result = evaluate(bridge, Small(), center="batch", centering=WHOLE, batch_size=2)
    assert bridge.centering is None
    assert result.settings["centering"] == {"center": "batch", "shrink": False}
    knowing(bridge, *TEXTS)
    for code in TEXTS:
        assert answers(result)[code] == classified(bridge, code, language=code)
    counts = result.settings["language_means"]["si"]
    assert (counts["texts"], counts["shrinkage"]) == (5, 1.0)


def test_a_batch_without_english_takes_that_of_the_run(bridge):
    with pytest.raises(ConfigError, match="no English rows are evaluated; next: add en to --lang"):
        evaluate(bridge, Small(), ["si"], center="batch")
    knowing(bridge, "en")
    result = evaluate(bridge, Small(), ["si"], center="batch")
    assert result.settings["centering"] == {"center": "batch", "english": "run", "shrink": False}
    knowing(bridge, "en", "si")
    assert answers(result)["si"] == classified(bridge, "si", language="si")


def test_a_removed_subspace_needs_no_language(bridge):
    knowing(bridge, *TEXTS, settings=CenteringSettings(method="remove", rank=2))
    result = evaluate(bridge, Small())
    for code in TEXTS:
        assert answers(result)[code] == classified(bridge, code)
    assert result.settings["centering"] == {"center": "known", "method": "remove", "rank": 2}


def test_results_with_and_without_are_two_methods(bridge, tmp_path):
    plain = evaluate(bridge, Small(), seed=0)
    assert not {"centering", "language_means"} & set(plain.settings)
    knowing(bridge, "en", "si")
    known = evaluate(bridge, Small(), seed=0)
    half = evaluate(bridge, Small(), seed=1, centering=CenteringSettings(strength=0.5))
    names = [each.method for each in distinguish([plain, known])]
    assert names == ["last (center none, shrink default)", "last (center known, shrink false)"]
    files = [result.write(tmp_path / f"{n}.json") for n, result in enumerate([plain, known, half])]
    names = [each.method for each in distinguish([read(file) for file in files])]
    assert len(set(names)) == 3
    again = evaluate(bridge, Small(), seed=1)
    assert [each.method for each in distinguish([known, again])] == [plain.method] * 2


@pytest.mark.parametrize(
    ("center", "message"),
    [
        ("all", "unknown centering 'all'; allowed: none, known, nearest, batch"),
        (
            "known",
            "the centering 'known' needs the means of other languages, and the run has none; next: "
            "layerbridge center RUN --language CODE --text FILE, or --center batch",
        ),
    ],
)
def test_what_cannot_be_centered(center, message):
    with pytest.raises(ConfigError) as caught:
        check_center(center, knows_means=False)
    assert str(caught.value) == message
