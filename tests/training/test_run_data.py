"""Which rows a run trains on, against plain Python over the rows of the file."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerbridge.errors import ConfigError, DataError
from layerbridge.tasks import Row
from layerbridge.tasks.stored_rows import StoredRows
from layerbridge.training.recipe import Recipe, read
from layerbridge.training.run_data import RunData, limited, read_data

# As in the published Amazon files: sorted by label.
STARS = [str(star) for star in range(5) for _ in range(8)]


def rows_of(targets):
    return [Row(str(n), f"text {n}", target, "en") for n, target in enumerate(targets, start=1)]


def naive(rows, share):
    kept = []
    for label in {row.target for row in rows}:
        kept += [row for row in rows if row.target == label][:share]
    return sorted(kept, key=lambda row: int(row.id))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=40), st.integers(1, 45))
def test_the_first_of_each_label_in_equal_shares(targets, most):
    rows = rows_of(targets)
    kept, how = limited(rows, most, labeled=True)
    if len(rows) <= most:
        assert (kept, how) == (rows, None)
        return
    shares = [share for share in range(1, most + 1) if len(naive(rows, share)) <= most]
    if not shares:
        assert kept == rows[:most]
        assert how == f"{len(rows) - most} of {len(rows)}; the first {most} are kept"
        return
    assert kept == naive(rows, shares[-1])
    assert how == (
        f"{len(rows) - len(kept)} of {len(rows)}; the first {shares[-1]} of each label are kept"
    )


def test_answers_that_are_no_labels():
    kept, how = limited(rows_of([f"answer {n % 9}" for n in range(10)]), 9, labeled=False)
    assert [row.id for row in kept] == [str(n) for n in range(1, 10)]
    assert how == "1 of 10; the first 9 are kept"
    kept, _ = limited(rows_of("yyyyyynn"), 4, labeled=False)
    assert Counter(row.target for row in kept) == {"y": 2, "n": 2}


@pytest.fixture
def sorted_file(tmp_path):
    path = tmp_path / "stars.jsonl"
    lines = [json.dumps({"text": f"t{n}", "label": label}) for n, label in enumerate(STARS)]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def task_file(sorted_file):
    folder = sorted_file.parent
    (folder / "test.jsonl").write_text('{"text": "x", "label": "0"}')
    (folder / "valid.jsonl").write_text('{"text": "y", "label": "0"}')
    (folder / "task.yaml").write_text(
        "name: stars\ntemplate: 'Review: {text} Label: '\n"
        "labels: {0: awful, 1: bad, 2: fair, 3: good, 4: superb}\n"
        "files: {train: stars.jsonl, validation: valid.jsonl, test: {en: test.jsonl}}\n"
    )
    return str(folder / "task.yaml")


@pytest.mark.parametrize("options", [None, [*"01234"]])
@pytest.mark.parametrize("source", ["data", "task"])
def test_the_papers_recipe_takes_the_first_of_each_class(sorted_file, task_file, source, options):
    paper = read("paper")
    assert paper.max_rows == 100_000
    places = {"data": str(sorted_file), "options": options}
    if source == "task":
        places = {"task": task_file}
    data = read_data(dataclasses.replace(paper, **places, max_rows=10))
    taken = sorted(int(row.fields["text"][1:]) for row in data.train)
    assert taken == [0, 1, 8, 9, 16, 17, 24, 25, 32, 33]
    if source == "task":
        same = read_data(Recipe(task=task_file, task_options={"train_per_label": 2}))
        assert (same.train, same.limit) == (data.train, None)
    assert data.limit == "30 of 40; the first 2 of each label are kept"
    everything = read_data(dataclasses.replace(paper, **places))
    assert (len(everything.train), everything.limit) == (40, None)


@pytest.mark.parametrize(
    ("most", "kept", "share"), [(20, 20, None), (50, 20, None), (13, 13, 4), (9, 8, 2), (1, 1, 0)]
)
def test_labels_with_few_rows_leave_theirs_to_the_others(task_file, most, kept, share):
    counts = [1, 1, 3, 5, 10]
    lines = [json.dumps({"text": f"t{n}.{k}", "label": f"{n}"})
             for n, count in enumerate(counts) for k in range(count)]  # fmt: skip
    Path(task_file).with_name("stars.jsonl").write_text("\n".join(lines))
    data = read_data(Recipe(task=task_file, max_rows=most))
    assert len(data.train) == kept
    if share is None:
        assert data.limit is None
    elif share:
        assert data.limit == (f"{20 - kept} of 20; the first {share} of each label are kept")
        firsts = {f"t{n}.{k}" for n, count in enumerate(counts) for k in range(min(count, share))}
        assert {row.fields["text"] for row in data.train} == firsts
    else:
        assert data.limit == "19 of 20; the first 1 are kept"


def test_a_tasks_own_share_is_kept(task_file):
    recipe = Recipe(task=task_file, task_options={"train_per_label": 4}, max_rows=10)
    data = read_data(recipe)
    assert Counter(row.target for row in data.train) == dict.fromkeys(
        ("awful", "bad", "fair", "good", "superb"), 2
    )
    assert data.limit == "10 of 20; the first 2 of each label are kept"


def data_of(targets, **changes):
    return RunData(rows_of(targets), [], None, None, "mine", **changes)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (data_of("ab"), ""),
        (data_of("a"), ""),
        (data_of("aaa"), "note: all 3 training rows have one label, 'a'\n"),
        (
            data_of("ab", dropped={"train": 3, "validation": 1}, limit="2 of 4; so"),
            "rows left out: 3 of train, 1 of validation; their texts are also in the "
            "English validation or test rows\nrows left out: 2 of 4; so\n",
        ),
    ],
)
def test_what_is_left_out_is_said(data, said, capsys):
    data.report()
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "label"}, "the target column 'label' is also the text column"),
        ({"template": "{text}{label}"}, "the target column 'label' is also in the template"),
        ({"template": "Label: "}, "the template 'Label: ' names no column"),
    ],
)
def test_a_text_that_gives_the_answer_away(sorted_file, changes, message):
    with pytest.raises(DataError, match=message):
        read_data(Recipe(data=str(sorted_file), **changes))


# Labels that nobody named


def write_csv(path, rows):
    path.write_text("text,label\n" + "".join(f"text {n},{label}\n" for n, label in rows))
    return str(path)


def test_targets_that_repeat_are_labels(tmp_path, capsys):
    file = write_csv(tmp_path / "rows.csv", [(n, "cba"[n % 3]) for n in range(60)])
    data = read_data(Recipe(data=file))
    assert data.options == ["a", "b", "c"]
    assert (len(data.train), len(data.validation)) == (54, 6)
    data.report()
    assert capsys.readouterr().err.splitlines() == [
        "3 labels: a, b, c (--free-text if answers are no labels)",
        "6 rows are held out for validation",
    ]
    given = read_data(Recipe(data=file, options=["c", "b", "a"]))
    assert given.options == ["c", "b", "a"]
    assert not given.inferred
    assert [row.text for row in given.validation] == [row.text for row in data.validation]


@pytest.mark.parametrize(
    "labels",
    [
        [str(n) for n in range(60)],  # all different
        [str(n % 20) for n in range(60)],  # three of each
        ["x" * 61] * 60,  # long
    ],
)
def test_targets_that_are_free_text(tmp_path, labels):
    file = write_csv(tmp_path / "rows.csv", list(enumerate(labels)))
    assert read_data(Recipe(data=file)).options is None


def test_free_text_may_repeat(tmp_path):
    file = write_csv(tmp_path / "rows.csv", [(n, "ab"[n % 2]) for n in range(60)])
    assert read_data(Recipe(data=file, free_text=True)).options is None


def test_validation_rows_are_held_out_once(tmp_path, capsys):
    file = write_csv(tmp_path / "rows.csv", [(n, "ab"[n % 2]) for n in range(100)])
    other = write_csv(tmp_path / "other.csv", [(200, "a")])
    sizes = {}
    for name, changes in {
        "default": {},
        "share": {"validation_share": 0.25},
        "none": {"validation_share": 0.0},
        "file": {"validation_data": other},
    }.items():
        data = read_data(Recipe(data=file, **changes))
        sizes[name] = (len(data.train), len(data.validation), data.held_out)
        texts = {row.text for row in data.train}
        assert not texts & {row.text for row in data.validation}
    assert sizes == {
        "default": (90, 10, 10),
        "share": (75, 25, 25),
        "none": (100, 0, None),
        "file": (100, 1, None),
    }
    assert capsys.readouterr().err == ""


def test_the_share_is_checked():
    recipe = Recipe(encoder="e", language_model="l", data="rows.csv")
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(recipe, validation_share=0.9).check()
    assert str(caught.value) == "validation_share is 0.9; allowed: a number from 0 to 0.5"
    with pytest.raises(ConfigError, match="both validation data and a validation share"):
        dataclasses.replace(recipe, validation_share=0.1, validation_data="v.csv").check()
    with pytest.raises(ConfigError, match="--free-text and --options contradict each other"):
        dataclasses.replace(recipe, free_text=True, options=["a"]).check()
    with pytest.raises(ConfigError, match="--validation-share works only with --data"):
        dataclasses.replace(recipe, data=None, task="names", validation_share=0.1).check()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_rows": 12},
        {"max_rows": 3, "free_text": True},
        {"validation_share": 0.3},
        {"options": [*"01234"], "validation_share": 0},
        {"target": "text2"},
    ],
)
def test_rows_on_the_disk_are_divided_the_same(sorted_file, monkeypatch, tmp_path, changes):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    lines = [json.loads(line) for line in sorted_file.read_text().splitlines()]
    lines = [{**line, "text2": f"answer {n}"} for n, line in enumerate(lines)]
    sorted_file.write_text("\n".join(map(json.dumps, lines)))
    recipe = Recipe(encoder="e", language_model="l", data=str(sorted_file), **changes)
    found = [read_data(recipe)]
    monkeypatch.setattr("layerbridge.tasks.records.LARGE", 0)
    monkeypatch.setattr("layerbridge.tasks.stored_rows.FEW", 0)
    found.append(read_data(recipe))
    assert isinstance(found[1].train, StoredRows)
    for name in ("train", "validation"):
        texts = [[(r.id, r.text, r.target) for r in getattr(data, name)] for data in found]
        assert texts[0] == texts[1]
    same = [dataclasses.replace(data, train=[], validation=[]) for data in found]
    assert same[0] == same[1]
