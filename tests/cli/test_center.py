import json
import shutil

import pytest

from layerbridge.evaluation import results
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.language_means import LanguageMeans

CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "en.txt").write_text("the market rose\nteams\na crowd\nPremise of a\n")
    (folder / "si.txt").write_text("ම ශ්\nශ්ම ම\nම\n", encoding="utf-8")
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_a_language_is_added_to_a_run(command, run, texts, few_names):
    plain = command("ask", run, "ම ශ්", "--json", *CPU).out
    outcome = command("center", run, "--language", "en", "--text", texts / "en.txt", *CPU)
    assert (outcome.code, outcome.out) == (0, "en\t4 texts\t" + outcome.out.split("\t")[2])
    assert outcome.err.startswith("mean of en: 4/4\nen: 4 texts, ")
    assert command("ask", run, "ම ශ්", "--json", *CPU).out == plain
    outcome = command("center", run, "--language", "sin", "--text", texts / "si.txt",
                      "--no-shrink", "--json", *CPU)  # fmt: skip
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["settings"] == {"shrink": False}
    assert report["added"][0]["language"] == "sin"
    assert list(report["languages"]) == ["en", "sin"]
    assert " by the nearest mean\n" in outcome.err
    bridge = LayerBridge.from_pretrained(run, dtype="float32")
    told = command("ask", run, "ම ශ්", "--language", "si", "--json", "--dtype", "float32", *CPU)
    expected = bridge.classify(["ම ශ්"], language="si")[0]
    assert json.loads(told.out)["scores"] == pytest.approx(expected.scores)
    assert told.out != plain
    # And it is evaluated so.
    outcome = command("evaluate", run, "--task", "names", "--languages", "si", *CPU)
    assert outcome.code == 0, outcome.err
    found = results.read(run / "results" / "names-score.json").settings
    assert found["centering"] == {"center": "known", "shrink": False}
    assert 0 <= found["language_means"]["sin"]["recognized"] <= 1


def test_a_folder_of_languages_and_other_settings(command, run, texts):
    assert command("center", run, "--text", texts, *CPU).code == 0
    means = LanguageMeans.read(run)
    assert list(means.by_code) == ["en", "si"]
    for flags, settings in (
        (("--strength", "0.5", "--layers", "1,-1"), {"strength": 0.5, "layers": [1, -1]}),
        (("--layers", "all", "--rank", "1"), {"strength": 0.5, "rank": 1}),
        (("--method", "remove", "--strength", "1"), {"method": "remove", "rank": 1}),
        (("--method", "center", "--rank", "0"), {}),
    ):
        outcome = command("center", run, *flags, *CPU)
        assert outcome.code == 0, outcome.err
        found = LanguageMeans.read(run)
        assert found.settings == settings
        assert found.by_code.keys() == means.by_code.keys()
        LayerBridge.from_pretrained(run)


def test_texts_of_a_task(command, run, few_names):
    outcome = command("center", run, "--task", "names", "--languages", "en,si", "--max-texts", "9",
                      *CPU)  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith(
        "texts are those of the test rows of names, but for English: an evaluation on them is "
        "transductive\n"
    )
    means = LanguageMeans.read(run)
    assert {code: mean.texts for code, mean in means.by_code.items()} == {"en": 9, "si": 9}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--language", "si"), "--language needs texts; next: --text FILE"),
        (("--text", "si.txt"), "si.txt is of an unknown language; next: --language CODE"),
        (("--task", "names", "--text", "si.txt"),
         "both a task and texts were given; allowed: --task, or --text"),
        (("--languages", "si"), "--languages works only with --task; next: --language CODE"),
        (
            ("--language", "si", "--text", "."),
            "the folder . has a language for each file; next: leave --language out",
        ),
        (
            ("--language", "si", "--text", "si.txt"),
            "'RUN' has no mean of English, to which other languages are moved; next: layerbridge "
            "center RUN --language en --text FILE, with texts like those of training",
        ),
        ((), "'RUN' has no mean of English, to which other languages are moved; next: layerbridge "
         "center RUN --language en --text FILE, with texts like those of training"),
        (("--language", "en", "--text", "si.txt", "--layers", "9"),
         "layer 9 cannot be moved: the fusion does not read it; allowed: 1, 2, 3, 4"),
        (("--language", "en", "--text", "si.txt", "--layers", "x"),
         "--layers 'x' is not a list of numbers; allowed: comma-separated integers, such as 0,1,2"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_write_nothing(words, message, command, run, texts, monkeypatch):
    monkeypatch.chdir(texts)
    outcome = command("center", run, *words, *CPU)
    assert outcome.code == 2
    last = outcome.err.splitlines()[-1]
    assert last == f"error: {message.replace('RUN', str(run))}"
    assert not (run / "language-means.safetensors").exists()


def test_what_evaluate_and_ask_refuse(command, run):
    outcome = command("evaluate", run, "--task", "names", "--center", "nearst")
    assert outcome.err == (
        "error: unknown centering 'nearst'; allowed: none, known, nearest, batch\n"
    )
    outcome = command("ask", run, "a", "--language", "si", *CPU)
    assert outcome.err.startswith("error: the bridge has no language means, so a language changes")
