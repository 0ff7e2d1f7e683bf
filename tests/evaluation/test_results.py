import json
import subprocess
import sys

import pytest

from layerbridge.errors import OutputError, ResultError
from layerbridge.evaluation.results import LanguageResult, Prediction, Result, find, read, versions
from layerbridge.evaluation.statistics.proportions import wilson
from layerbridge.evaluation.statistics.seeds import Answers, mean_of_seeds


def answers(right, n, code="si"):
    return [
        Prediction(f"{code}/{i}", "yes", "yes" if i < right else "නැත", i < right) for i in range(n)
    ]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def result(**changes):
    languages = {
        "en": LanguageResult.of(answers(4, 4, "en"), [0.25, 0.75]),
        "si": LanguageResult.of(answers(3, 4)),
        "ta": LanguageResult.of(answers(1, 2, "ta"), None),
    }
    made = {
        "method": "last",
        "task": "names",
        "protocol": "score",
        "split": "test",
        "seed": 0,
        "languages": languages,
        "settings": {"b": 1, "a": [1, None, "ආ"]},
        "versions": {"torch": "2"},
        "run": "runs/a",
        "created": "2026-01-01T00:00:00+00:00",
    }
    return Result(**(made | changes))


def test_counts_and_interval():
    made = LanguageResult.of(answers(3, 4))
    assert (made.n, made.correct, made.accuracy, made.interval) == (4, 3, 0.75, wilson(3, 4))
    with pytest.raises(ResultError):
        LanguageResult.of([])


def test_average_leaves_english_out():
    average = result().average_non_english()
    assert average.languages == ("si", "ta")
    by_item = {"si": [1, 1, 1, 0], "ta": [1, 0]}
    assert average[:3] == mean_of_seeds(
        {code: Answers.of([dict(enumerate(right))]) for code, right in by_item.items()}
    )
    assert result().average_non_english(["en", "ta"]).accuracy == 0.5


@pytest.mark.parametrize("right", [0, 3, 4])
def test_languages_that_share_items_tell_no_more_than_one(right):
    """Names are translations: four rows, whatever the number of languages that answer alike."""
    codes = ("si", "ta", "am", "sw")
    made = result(languages={c: LanguageResult.of(answers(right, 4, c)) for c in codes})
    assert made.average_non_english()[:3] == pytest.approx((right / 4, *wilson(right, 4)))
    apart = result(languages=made.languages, task="amazon-reviews").average_non_english()
    assert apart.high - apart.low < 0.7 * (wilson(right, 4)[1] - wilson(right, 4)[0])


def test_average_of_english_alone():
    alone = result(languages={"en": LanguageResult.of(answers(1, 2))})
    with pytest.raises(ResultError, match="no languages to average over"):
        alone.average_non_english()
    with pytest.raises(ResultError) as error:
        result().average_non_english(["am"])
    assert str(error.value) == "the result of last has no language 'am'; allowed: en, si, ta"


def test_round_trip(tmp_path):
    path = result().write(tmp_path / "new" / "a.json")
    assert read(path) == result()
    assert [*json.loads(path.read_text("utf-8"))][:3] == ["schema", "method", "task"]
    assert "නැත" in path.read_text("utf-8")
    assert names(path.parent) == ["a.json"]


def test_equal_results_make_equal_files(tmp_path):
    other = result(settings={"a": [1, None, "ආ"], "b": 1})
    assert result().write(tmp_path / "a").read_bytes() == other.write(tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = result().write(tmp_path / "a.json")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        result(settings={"loss": float("nan")}).write(path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["a.json"]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "b").write_text("a file, not a folder")
    with pytest.raises(OutputError, match=r"a\.json cannot be written .* choose another folder$"):
        result().write(tmp_path / "b" / "a.json")


def test_missing_file(tmp_path):
    with pytest.raises(ResultError) as error:
        read(tmp_path / "a.json")
    assert str(error.value) == (
        f"{tmp_path}/a.json cannot be read (No such file or directory); "
        "next: create one with layerbridge evaluate"
    )


def test_damaged_file(tmp_path):
    path = result().write(tmp_path / "a.json")
    path.write_text(path.read_text("utf-8")[:100])
    with pytest.raises(
        ResultError, match=r"a\.json is damaged \(EOF .* line 6 .*run layerbridge eval"
    ):
        read(path)
    with pytest.raises(ResultError, match="is damaged"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("schema", "given"),
    [(None, "no schema"), ("layerbridge/result/9", "the schema 'layerbridge/result/9'")],
)
def test_other_schema(tmp_path, schema, given):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({} if schema is None else {"schema": schema}))
    with pytest.raises(ResultError) as error:
        read(path)
    assert str(error.value) == f"{path} has {given}; allowed: layerbridge/result/1"


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["seed"], "0", 'seed is "0"; allowed: an integer'),
        (["seed"], True, "seed is true; allowed: an integer"),
        (["method"], None, "method is null; allowed: text"),
        (["languages"], [], "languages is []; allowed: an object"),
        (["run"], 3, "run is 3; allowed: text or null"),
        (
            ["languages", "en", "layer_weights"],
            0.5,
            "languages.en.layer_weights is 0.5; allowed: a list or null",
        ),
        (
            ["languages", "si", "predictions", 0],
            "yes",
            'languages.si.predictions[0] is "yes"; allowed: an object',
        ),
        (["languages", "si"], None, "languages.si is null; allowed: an object"),
        (["languages", "si", "n"], 5, "languages.si.n is 5; allowed: 4, as the predictions say"),
        (
            ["languages", "si", "predictions"],
            [],
            "languages.si.predictions is []; allowed: one prediction or more",
        ),
        (
            ["languages", "si", "predictions", 2, "correct"],
            1,
            "languages.si.predictions[2].correct is 1; allowed: true or false",
        ),
        (
            ["languages", "en", "layer_weights"],
            ["a"],
            'languages.en.layer_weights[0] is "a"; allowed: a number',
        ),
    ],
)
def test_wrong_types(tmp_path, where, value, message):
    path = result().write(tmp_path / "a.json")
    document = json.loads(path.read_text("utf-8"))
    inner = document
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    path.write_text(json.dumps(document))
    with pytest.raises(ResultError) as error:
        read(path)
    assert str(error.value) == f"{path}: {message}"


def test_missing_key(tmp_path):
    path = result().write(tmp_path / "a.json")
    document = json.loads(path.read_text("utf-8"))
    del document["languages"]["si"]["correct"]
    path.write_text(json.dumps(document))
    with pytest.raises(ResultError) as error:
        read(path)
    assert (
        str(error.value)
        == f"{path} has no languages.si.correct; next: run layerbridge evaluate again"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"schema": "s\\ud800"}', "unexpected end of hex escape at line 1 column 20"),
        (b'{"schema": "s\xff"}', "invalid unicode code point at line 1 column 14"),
    ],
)
def test_invalid_unicode(tmp_path, content, problem):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ResultError) as error:
        read(path)
    shown = f"{path} is damaged ({problem}); next: run layerbridge evaluate again"
    assert str(error.value) == shown


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ("tf-idf + logistic regression", "tf-idf"),
        ("LM alone", "zero-shot LM"),
        ("LM few-shot (8)", "few-shot LM (8)"),
        ("translate, then LM", "translate + zero-shot LM"),
        ("translate, then LM few-shot (12)", "translate + few-shot LM (12)"),
        ("not LM alone", "not LM alone"),
    ],
)
def test_former_names_of_methods(tmp_path, former, current):
    path = result(method=former).write(tmp_path / "a.json")
    assert read(path) == result(method=current)


@pytest.mark.parametrize(
    ("code", "shown"), [("s\x1b[31m", "'s\\x1b[31m'"), ("s\uffff", "'s\\uffff'")]
)
def test_a_language_that_is_not_text(tmp_path, code, shown):
    path = result().write(tmp_path / "a.json")
    document = json.loads(path.read_text("utf-8"))
    document["languages"][code] = document["languages"].pop("si")
    path.write_text(json.dumps(document))
    with pytest.raises(ResultError) as error:
        read(path)
    assert str(error.value) == (
        f"the result of 'last' has a language {shown}; allowed: codes of printable characters"
    )


def test_a_language_may_have_any_letters(tmp_path):
    made = result(languages={"ශ්\u200dරී-x": LanguageResult.of(answers(1, 2))})
    assert read(made.write(tmp_path / "a.json")) == made


def test_find(tmp_path):
    for seed in (2, 0, 1):
        result(seed=seed).write(tmp_path / "runs" / str(seed) / "test.json")
    (tmp_path / "runs" / "config.json").write_text('{"model_type": "bert"}')
    lone = result(seed=7).write(tmp_path / "lone.json")
    found = find([lone, tmp_path / "runs", tmp_path / "runs" / "1"])
    assert [one.seed for one in found] == [7, 0, 1, 2]
    assert find(str(lone)) == [result(seed=7)]


def test_find_nothing(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ResultError) as error:
        find([tmp_path])
    assert str(error.value) == (
        f"{tmp_path} has no result files; next: create one with layerbridge evaluate"
    )
    with pytest.raises(ResultError, match="has no schema"):
        find([tmp_path / "config.json"])


def test_versions_import_nothing_heavy():
    found = versions()
    assert {"python", "platform", "layerbridge", "torch", "transformers", "babel"} <= found.keys()
    code = (
        "import sys; from layerbridge import tasks; from layerbridge.report import plots, tables; "
        "from layerbridge.evaluation import results, statistics; "
        "from layerbridge.evaluation.baselines import tf_idf; "
        "from layerbridge.tasks import cldr_names, files; "
        "results.versions(); "
        "heavy = {'torch', 'transformers', 'babel', 'scipy', 'sklearn', 'matplotlib', 'datasets', "
        "'pandas', 'pyarrow', 'numpy'}; print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("labels", "right", "chance"),
    [
        ("aaabbb", 3, True),
        ("ab" * 20, 39, False),
        ("ab" * 20, 24, True),  # 60 % of 40 rows may be luck
        ("ab" * 200, 240, False),  # of 400 rows it is not
        ("a" * 30 + "b" * 10, 30, True),  # as good as always "a"
        ("abcdefgh", 8, False),
    ],
)
def test_what_may_be_chance(labels, right, chance):
    rows = [
        Prediction(str(i), label, label if i < right else "?", i < right)
        for i, label in enumerate(labels)
    ]
    assert LanguageResult.of(rows).is_at_chance == chance
