import pytest
from svg_text import texts

from layerbridge.errors import ConfigError, OutputError, ResultError
from layerbridge.evaluation.comparison import compare
from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.report.plots import gain_by_language, style
from layerbridge.report.plots.gains import grouped
from layerbridge.tasks.languages import corpora

ENCODER = {"bridge": {"encoder": "zoo:multilingual-e5-small"}}


def result(method, settings=ENCODER, protocol="score", seed=0, **right):
    languages = {
        code: LanguageResult.of(
            Prediction(f"{code}{i}", "ab"[i % 2], "x", i < count) for i in range(20)
        )
        for code, count in right.items()
    }
    return Result(method, "names", protocol, "test", seed, languages, settings=settings)


LAST = result("last", **{"en": 15, "si": 5, "as": 4, "bn": 6, "de": 9, "sw": 7})
BETTER = result("token-softmax", **{"en": 15, "si": 12, "as": 8, "bn": 9, "de": 8, "sw": 11})


@pytest.fixture(scope="module")
def comparisons():
    return compare([LAST, BETTER], draws=100)


def test_languages_by_script():
    groups = grouped(["en", "si", "as", "bn", "de", "sw", "am", "xx"], "script", None)
    assert groups == {
        "training language": ["en"],
        "Bangla": ["as", "bn"],
        "Latin": ["de", "sw"],
        "other scripts": ["am", "si"],
        "unknown": ["xx"],
    }
    # Nothing to group: no title that says so of each.
    assert grouped(["si", "ta"], "script", None) == {"scripts": ["si", "ta"]}


def test_languages_by_share():
    cc100, _ = corpora()
    groups = grouped(["en", "sw", "si", "ta", "vi", "de", "xx"], "share", cc100)
    assert groups == {
        "training language": ["en"],
        "above 1 %": ["vi", "de"],
        "0.1 to 1 %": ["ta", "si"],
        "below 0.1 %": ["sw"],
        "unknown": ["xx"],
    }
    assert grouped(["en", "sw"], "share", None) == {
        "training language": ["en"],
        "unknown": ["sw"],
    }


def test_the_figure_by_script(tmp_path, comparisons):
    words = texts(gain_by_language([LAST, BETTER], tmp_path / "g.svg", comparisons=comparisons))
    assert {"token-softmax", "gain over last, points", "Bangla", "Latin"} <= set(words)
    assert {"Assamese", "Swahili", "Sinhala"} <= set(words)
    assert "last" not in words


def test_the_figure_by_share(tmp_path, comparisons):
    words = texts(
        gain_by_language([LAST, BETTER], tmp_path / "g.svg", by="share", comparisons=comparisons)
    )
    assert {"Sinhala, 0.15 %", "English, 12 %", "0.1 to 1 %"} <= set(words)
    other = [
        Result(**{**vars(r), "settings": {"bridge": {"encoder": "x"}}}) for r in (LAST, BETTER)
    ]
    words = texts(gain_by_language(other, tmp_path / "h.svg", by="share", comparisons=comparisons))
    assert {"Sinhala", "unknown"} <= set(words)


def test_marks_stand_where_the_differences_are(comparisons):
    (axes,) = gain_by_language.figure([LAST, BETTER], comparisons=comparisons).axes
    xs, ys = axes.containers[0].lines[0].get_data()
    labels = dict(zip(axes.get_yticks(), axes.get_yticklabels(), strict=True))
    marks = {labels[y].get_text(): x for x, y in zip(xs, ys, strict=True)}
    assert marks == pytest.approx(
        {
            "English": 0,
            "Sinhala": 35,
            "Assamese": 20,
            "Bangla": 15,
            "German": -5,
            "Swahili": 20,
        }
    )


def test_a_mark_is_hollow_where_the_difference_is_not_significant():
    seeds = [
        result(method, seed=seed, **right)
        for method, right in (("last", {"si": 0, "de": 9}), ("token-softmax", {"si": 20, "de": 10}))
        for seed in (0, 1)
    ]
    # With one seed of a method nothing is significant.
    for given, expected in ((seeds, [5]), (seeds[::2], [100, 5]), (seeds[1:], [100, 5])):
        (axes,) = gain_by_language.figure(given, comparisons=compare(given, draws=100)).axes
        hollow = next(line for line in axes.lines if line.get_markerfacecolor() == style.PAPER)
        assert hollow.get_xdata() == pytest.approx(expected)


def test_bridges_are_drawn_beside_bridges():
    baseline = Result(
        **{**vars(BETTER), "method": "tf-idf", "protocol": "classifier", "settings": {}}
    )
    alone = Result(**{**vars(BETTER), "method": "LM alone", "settings": {}})
    comparisons = compare([baseline, alone, LAST, BETTER], draws=100)
    (axes,) = gain_by_language.figure([baseline, alone, LAST, BETTER], comparisons=comparisons).axes
    assert axes.get_figure().legends[0].get_texts()[0].get_text() == "token-softmax"
    assert len(axes.containers) == 1
    other = Result(**{**vars(alone), "method": "another LM"})
    comparisons = compare([alone, other], "LM alone", draws=100)
    (axes,) = gain_by_language.figure(
        [alone, other], against="LM alone", comparisons=comparisons
    ).axes
    assert len(axes.containers) == 1


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(ConfigError) as error:
        gain_by_language([LAST, BETTER], tmp_path / "g.svg", by="color")
    assert str(error.value) == "unknown grouping 'color'; allowed: script, share"
    with pytest.raises(ResultError, match="there is nothing to compare with last"):
        gain_by_language([LAST], tmp_path / "g.svg")
    baseline = Result(**{**vars(BETTER), "method": "tf-idf", "protocol": "classifier"})
    with pytest.raises(ResultError) as error:
        gain_by_language([LAST, baseline], tmp_path / "g.svg")
    assert str(error.value) == (
        "there is no other bridge to compare with last; next: use layerbridge compare for baselines"
    )
    with pytest.raises(OutputError, match="cannot write a figure to"):
        gain_by_language([LAST, BETTER], tmp_path / "g.gif")
    assert list(tmp_path.iterdir()) == []
