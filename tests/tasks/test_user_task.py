import json
from pathlib import Path

import pytest
import yaml

from layerbridge import tasks
from layerbridge.errors import DataError

TASK = {
    "name": "reviews",
    "description": "Whether a review is kind.",
    "template": "Review: {text} Label: ",
    "labels": {1: "bad", 2: "bad", 5: "good"},
    "columns": {"text": "body", "label": "stars"},
    "files": {
        "train": "rows/train.jsonl",
        "validation": "rows/dev.jsonl",
        "test": {"si": "rows/si.jsonl", "en": "rows/en.jsonl"},
    },
    "licence": "CC0-1.0",
}


@pytest.fixture
def make(write, tmp_path):
    """Writes the rows and the task with some keys changed; None takes a key away."""
    for name in ("train", "dev", "en", "si"):
        write(
            f"rows/{name}.jsonl",
            [{"body": f"{name} {n}", "stars": stars} for n, stars in enumerate((1, 2, 5, 5))],
        )

    def task(text=None, **changes):
        keys = {key: value for key, value in {**TASK, **changes}.items() if value is not None}
        path = tmp_path / "mine.yaml"
        path.write_text(text or yaml.safe_dump(keys, allow_unicode=True), encoding="utf-8")
        return str(path)

    return task


def test_a_task_of_ones_own(make, monkeypatch, tmp_path):
    path = make()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    task = tasks.get(path)
    assert (task.name, task.description, task.licence) == (
        "reviews", "Whether a review is kind.", "CC0-1.0"
    )  # fmt: skip
    assert (task.template, task.options) == ("Review: {text} Label: ", ("bad", "good"))
    assert task.languages == ("en", "si")
    assert {row.text for row in task.train()} == {f"Review: train {n} Label: " for n in range(4)}
    assert [row.text for row in task.validation()] == [f"Review: dev {n} Label: " for n in range(4)]
    assert [row.target for row in task.test("si")] == ["bad", "bad", "good", "good"]
    assert task.test("si")[2].id == "si/3"
    assert task.dropped() == {}
    assert task.dataset_info().place == "local"
    with pytest.raises(DataError, match=r"^the task reviews has no test rows in 'ta'; allowed: en"):
        task.test("ta")


def test_any_code_of_a_language_will_do(make):
    test = {"swh_Latn": "rows/si.jsonl", "eng": "rows/en.jsonl"}
    path = make(files={"train": "rows/train.jsonl", "test": test})
    task = tasks.get(path)
    # English is known by whatever code, and its texts are kept out of training.
    assert task.languages == ("en", "swh_Latn")
    assert [row.language for row in task.test("eng_Latn")] == ["en"] * 4
    for code in ("sw", "swa", "swh"):
        assert task.check_language(code) == "swh_Latn"
        assert task.test(code) == task.test("swh_Latn")
        assert tasks.get(path, languages=code).languages == ("en", "swh_Latn")


def test_options(make):
    task = tasks.get(make(), languages="si", train_per_label=1, max_test=2)
    assert task.languages == ("en", "si")
    assert len(task.train()) == 2
    assert len(task.test("si")) == 2
    with pytest.raises(DataError) as caught:
        tasks.get(make(), data_dir="here")
    assert str(caught.value).endswith(
        "has no option 'data_dir'; "
        "allowed: languages, train_per_label, max_test, skip_unknown_labels"
    )
    with pytest.raises(DataError, match="the task reviews has no test rows in 'ta'"):
        tasks.get(make(), languages=["ta"])


def test_little_is_needed(make):
    path = make(
        description=None,
        licence=None,
        columns={"text": "body", "label": "stars"},
        files={"train": "rows/train.jsonl", "test": {"si": "rows/si.jsonl"}},
        parallel=True,
    )
    task = tasks.get(path)
    assert (task.description, task.licence) == ("The task of mine.yaml.", "not stated")
    assert task.languages == ("si",)
    # Every tenth training row is held out, one at least.
    assert (len(task.train()), len(task.validation())) == (3, 1)
    assert task.test("si")[0].id == "1"


def test_labels_as_a_list_and_columns_by_their_own_names(make, write):
    for name in ("train", "dev", "en", "si"):
        write(
            f"rows/{name}.jsonl", [{"text": name, "label": "GOOD"}, {"text": "x", "label": "bad"}]
        )
    task = tasks.get(make(columns=None, labels=["good", "bad"]))
    assert [row.target for row in task.test("en")] == ["good", "bad"]
    assert task.test("en")[0].text == "Review: en Label: "


def test_rows_from_the_hub(make, hub):
    hub.sets["me/mine", "si", "test"] = ([{"body": "අ", "stars": 5}], None)
    files = {"train": "rows/train.jsonl", "test": {"si": "me/mine:si:test"}}
    assert tasks.get(make(files=files)).test("si")[0].target == "good"


def test_the_example_of_the_documentation(write, hub, tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    example, row = (text.split(f"```{kind}\n")[1].split("```")[0] for kind in ("yaml", "json"))
    (tmp_path / "reviews.yaml").write_text(example, encoding="utf-8")
    keys = yaml.safe_load(example)
    rows = [json.loads(row), {"body": "Lovely.", "stars": 1}]
    paths = [keys["files"]["train"], keys["files"]["validation"], *keys["files"]["test"].values()]
    for path in paths[:-1]:
        write(path, [{**row, "body": f"{path}: {row['body']}"} for row in rows])
    hub.sets["me/tamil-reviews", "default", "test"] = (rows, None)
    task = tasks.get(str(tmp_path / "reviews.yaml"))
    assert (task.name, task.options, task.languages) == (
        "reviews", ("bad", "good"), ("en", "si", "ta")
    )  # fmt: skip
    for made in (task.train(), task.validation(), *map(task.test, task.languages)):
        assert sorted(row.target for row in made) == ["bad", "good"]
    assert task.test("ta")[0].text == "Review: It came broken. Label: "


def test_a_name_that_a_task_of_layerbridge_has(make):
    path = make(name="xnli")
    with pytest.raises(DataError) as caught:
        tasks.get(path)
    assert str(caught.value) == (
        f"{path}: name is 'xnli', which is the name of another task; next: choose another name"
    )


QUOTES = "put it in quotes; YAML reads no, yes, on and off as true or false"
KEYS = "name, description, template, labels, columns, files, parallel, licence"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nmae": "x"}, f": unknown key 'nmae'; allowed: {KEYS}"),
        ({"name": None}, " has no name; next: add a line name: …"),
        ({"name": 3}, ": name is 3; allowed: lowercase letters, digits, '-', '_' and '.'"),
        ({"name": "a/b"}, ": name is 'a/b'; allowed: lowercase letters, digits, '-', '_' and '.'"),
        ({"template": None}, " has no template; next: add a line template: …"),
        (
            {"template": "no columns"},
            ": template is 'no columns'; allowed: text with columns in br",
        ),
        ({"template": "{text"}, ": the template '{text' is malformed ("),
        (
            {"template": "{text} {stars}"},
            ": template is '{text} {stars}'; allowed: text without 'stars', which is the label",
        ),
        (
            {"template": "{text} {label}"},
            ": template is '{text} {label}'; allowed: text without 'stars', which is the label",
        ),
        ({"labels": None}, " has no labels; next: add a line labels: …"),
        ({"labels": "good, bad"}, ": labels is 'good, bad'; allowed: a list of words, or lines of"),
        ({"labels": ["good"]}, ": labels is ['good']; allowed: two or more, without duplicates"),
        (
            {"labels": ["good", "bad", "bad"]},
            ": labels is ['good', 'bad', 'bad']; allowed: two or more, without duplicates",
        ),
        (
            {"labels": [True, False]},
            ": labels is [True, False]; allowed: a list of words, or lines of raw label: word; "
            f"next: {QUOTES}",
        ),
        ({"labels": {0: True, 1: "b"}}, f": labels.0 is True; allowed: text; next: {QUOTES}"),
        ({"labels": {True: "a", 1.5: "b"}}, f": labels has the name True; next: {QUOTES}"),
        ({"columns": ["a"]}, ": columns is ['a']; allowed: lines of name: value"),
        (
            {"columns": {"body": "text"}},
            ": columns.body is not in the template; allowed: text, label",
        ),
        ({"columns": {"text": 3}}, ": columns.text is 3; allowed: text"),
        ({"parallel": "so so"}, ": parallel is 'so so'; allowed: true or false"),
        ({"files": None}, " has no files; next: add a line files: …"),
        ({"files": 3}, ": files is 3; allowed: lines of name: value"),
        ({"files": {}}, " has no files.train; next: add a line train: … under files"),
        ({"files": {"dev": "x"}}, ": unknown key 'files.dev'; allowed: train, validation, test"),
        ({"files": {"train": "rows/train.jsonl"}}, " has no files.test; next: add a line test: …"),
        (
            {"files": {"train": "rows/train.jsonl", "test": "rows/en.jsonl"}},
            ": files.test is 'rows/en.jsonl'; allowed: lines of name: value",
        ),
        (
            {"files": {"train": "rows/train.jsonl", "test": {}}},
            ": files.test is {}; allowed: lines of language: file",
        ),
        # Norwegian.
        (
            {"files": {"train": "rows/train.jsonl", "test": {False: "rows/en.jsonl"}}},
            f": files.test has the name False; next: {QUOTES}",
        ),
        (
            {"files": {"train": "rows/train.jsonl", "test": {"en": ["a"]}}},
            ": files.test.en is ['a']; allowed: text",
        ),
        (
            {"files": {"train": "train.txt", "test": {"en": "rows/en.jsonl"}}},
            ": files.train: train.txt has an unsupported format; allowed: .jsonl, ",
        ),
        (
            {"files": {"train": "rows/en.jsonl", "test": {"en": "rows/en.jsonl"}}},
            " is used for both training and test (en) rows of the task reviews",
        ),
    ],
)
def test_what_does_not_fit(make, changes, message):
    path = make(**changes)
    with pytest.raises(DataError) as caught:
        tasks.get(path)
    result = str(caught.value)
    assert "\n" not in result
    if "is used for both" in message:
        assert message in result
    else:
        assert result.startswith(f"{path}{message}")


def test_a_key_that_is_not_text(make):
    path = make(text="name: a\nno: x\n")
    with pytest.raises(DataError) as caught:
        tasks.get(path)
    assert str(caught.value) == f"{path}: unknown key False; allowed: {KEYS}"


def test_a_file_that_is_not_there(make, tmp_path):
    path = make(files={"train": "rows/none.jsonl", "test": {"en": "rows/en.jsonl"}})
    with pytest.raises(DataError) as caught:
        tasks.get(path)
    assert str(caught.value) == (
        f"{path}: files.train: the file {tmp_path / 'rows' / 'none.jsonl'} does not exist"
    )


def test_a_file_of_another_format_is_no_hub_id(make, tmp_path):
    (tmp_path / "rows" / "train.txt").touch()
    path = make(files={"train": "rows/train.txt", "test": {"en": "rows/en.jsonl"}})
    with pytest.raises(DataError) as caught:
        tasks.get(path)
    assert str(caught.value).startswith(
        f"{path}: files.train: {tmp_path / 'rows' / 'train.txt'} has an unsupported format"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [a\nlabels: b", "is not YAML: while parsing a flow sequence"),
        ("- a", "has no keys; allowed: name, description, "),
        ("a: !!python/object/apply:os.getcwd []", "is not YAML: could not determine a constructor"),
    ],
)
def test_what_is_no_task_file(make, text, message):
    path = make(text=text)
    with pytest.raises(DataError) as caught:
        tasks.get(path)
    assert str(caught.value).startswith(f"the task file {path} {message}")
    assert "\n" not in str(caught.value)


def test_a_task_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError) as caught:
        tasks.get(str(tmp_path / "none.yml"))
    assert str(caught.value) == (
        f"cannot read the task file {tmp_path / 'none.yml'} (No such file or directory); next: "
        "check the path"
    )
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(DataError, match=r"^the task file .*latin.yaml is not UTF-8$"):
        tasks.get(str(tmp_path / "latin.yaml"))
