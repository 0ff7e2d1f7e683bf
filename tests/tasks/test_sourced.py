"""Which rows a task with files takes, against plain Python over the records that were written."""

import json
import os
import subprocess
import sys
import unicodedata
from collections import Counter

import pytest

from layerbridge.errors import DataError
from layerbridge.tasks.labels import Labels
from layerbridge.tasks.sourced import HELD_OUT, SourcedTask


class Toy(SourcedTask):
    name = "toy"
    description = "A task of the tests."
    labels = Labels({"p": "good", "n": "bad"})
    options = labels.options
    template = "Review: {body} Label: "
    target = "label"
    licence = "none"

    def __init__(self, files, parallel=False, **numbers):
        super().__init__(**numbers)
        self.files = files
        self.parallel = parallel
        self.holds_out = ("validation", "en") not in files
        self.languages = tuple(code for split, code in files if split == "test")
        self.check_apart()

    def source(self, split, language="en"):
        return self.files.get((split, language))


def records(prefix, count, start=0):
    # Sorted by label, as some published files are.
    return [
        {"body": f"{prefix} {number}", "label": "p" if number < start + count / 2 else "n"}
        for number in range(start, start + count)
    ]


@pytest.fixture
def files(write):
    made = {
        ("train", "en"): records("train", 40),
        ("validation", "en"): records("valid", 10),
        ("test", "en"): records("test", 30),
        ("test", "si"): records("පරීක්ෂණ", 30),
        ("test", "ja"): records("試験", 15),
    }
    return {key: str(write(f"{'-'.join(key)}.jsonl", content)) for key, content in made.items()}


def numbers(rows):
    return [int(row.fields["body"].rpartition(" ")[2]) for row in rows]


def test_rows(files):
    task = Toy(files)
    row = task.test("si")[16]
    assert (row.text, row.target, row.language) == ("Review: පරීක්ෂණ 16 Label: ", "bad", "si")
    assert row.fields == {"body": "පරීක්ෂණ 16", "label": "n"}
    assert numbers(task.test("ja")) == list(range(15))
    assert numbers(task.validation()) == list(range(10))
    assert task.dropped() == {}


def test_training_rows_are_all_there_and_mixed(files):
    rows = Toy(files).train()
    assert sorted(numbers(rows)) == list(range(40))
    assert numbers(rows) != list(range(40))
    # Of rows sorted by label, the first so many would be of one.
    assert 4 <= Counter(row.target for row in rows[:14])["good"] <= 10
    assert {row.language for row in rows} == {"en"}


def test_the_first_of_each_label(files):
    rows = Toy(files, train_per_label=3).train()
    assert sorted(numbers(rows)) == [0, 1, 2, 20, 21, 22]
    assert Counter(row.target for row in rows) == {"good": 3, "bad": 3}
    assert sorted(numbers(Toy(files, train_per_label=1000).train())) == list(range(40))


def test_the_first_of_each_label_are_taken_after_rows_are_dropped(files, write):
    files["train", "en"] = str(write("t.jsonl", [*records("test", 2), *records("train", 4)]))
    rows = Toy(files, train_per_label=1).train()
    assert sorted(row.fields["body"] for row in rows) == ["train 0", "train 2"]


def test_the_same_items_are_asked_in_every_language(files):
    task = Toy(files, max_test=8)
    english, sinhala, japanese = (numbers(task.test(code)) for code in ("en", "si", "ja"))
    assert english == sinhala == sorted(english)
    assert len(english) == len(japanese) == 8
    assert english != list(range(8))
    # Where a language has the first half only, its share of those comes first.
    assert {number for number in english if number < 15} <= set(japanese)
    more = numbers(Toy(files, max_test=9).test("si"))
    assert set(sinhala) < set(more)
    assert numbers(Toy(files, max_test=1000).test("si")) == list(range(30))


def test_ids(files):
    assert [row.id for row in Toy(files, parallel=True, max_test=5).test("si")] == [
        str(number + 1) for number in numbers(Toy(files, max_test=5).test("si"))
    ]
    task = Toy(files)
    assert [row.id for row in task.test("si")[:2]] == ["si/1", "si/2"]
    parallel = Toy(files, parallel=True)
    parallel.unpaired = ("ja",)
    assert [parallel.test(code)[1].id for code in task.languages] == ["2", "2", "ja/2"]


@pytest.mark.parametrize("with_ids", [False, True])
@pytest.mark.parametrize("unpaired", [(), ("ja",), ("ja", "si")])
@pytest.mark.parametrize("parallel", [True, False])
def test_languages_share_items_only_where_rows_are_translations(
    files, write, parallel, unpaired, with_ids
):
    if with_ids:  # a column of one's own; some of them look like another language's
        for code in ("en", "si", "ja"):
            made = [{**row, "id": f"si/{n}"} for n, row in enumerate(records(code, 15))]
            files["test", code] = str(write(f"ids-{code}.jsonl", made))
    task = Toy(files, parallel=parallel)
    task.unpaired = unpaired
    items = {code: [row.item for row in task.test(code)] for code in task.languages}
    assert all(len(set(of)) == len(of) for of in items.values())
    for one, other in (("en", "si"), ("en", "ja"), ("si", "ja")):
        paired = parallel and not {one, other} & set(unpaired)
        shared = set(items[one]) & set(items[other])
        assert len(shared) == (min(len(items[one]), len(items[other])) if paired else 0)
        if paired:  # row n is item n
            assert items[one][:15] == items[other][:15]


def test_rows_that_give_an_answer_away_are_left_out(files, write):
    seen = ["Test  3", "valid 4", "TEST 7", "test 3"]
    extra = [{"body": body, "label": "p"} for body in seen]
    files["train", "en"] = str(write("t.jsonl", [*records("train", 10), *extra]))
    files["validation", "en"] = str(
        write("v.jsonl", [*records("valid", 6), {"body": "test 9", "label": "n"}])
    )
    task = Toy(files)
    assert sorted(row.fields["body"] for row in task.train()) == [f"train {n}" for n in range(10)]
    assert [row.fields["body"] for row in task.validation()] == [f"valid {n}" for n in range(6)]
    assert task.dropped() == {"train": 4, "validation": 1}
    assert len(task.test("en")) == 30


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_unicode_form_gives_no_answer_away(files, write, split, form):
    bodies = ["Café ﬁve ①", "ශ්\u200dරී ලංකා", "naïve"]
    files[split, "en"] = str(write("e.jsonl", [{"body": body, "label": "p"} for body in bodies]))
    copies = [{"body": unicodedata.normalize(form, body), "label": "p"} for body in bodies]
    for name in {"train", "validation"} - {split}:
        files[name, "en"] = str(write(f"{name}.jsonl", [*records(name, 4), *copies]))
    task = Toy(files)
    assert sorted(row.fields["body"] for row in task.train()) == [f"train {n}" for n in range(4)]
    validation = [row.fields["body"] for row in task.validation()]
    if split == "test":
        assert validation == [f"validation {n}" for n in range(4)]
        assert task.dropped() == {"train": 3, "validation": 3}
    else:
        assert validation == bodies
        assert task.dropped() == {"train": 3}


def test_the_unicode_form_does_not_split_a_text(files, write):
    del files["validation", "en"]
    bodies = [f"café {number}" for number in range(20)]
    forms = [unicodedata.normalize(form, body) for body in bodies for form in ("NFC", "NFD")]
    files["train", "en"] = str(write("t.jsonl", [{"body": b, "label": "p"} for b in forms]))
    task = Toy(files)
    train, validation = set(numbers(task.train())), set(numbers(task.validation()))
    assert (len(train), len(validation)) == (18, 2)
    assert not train & validation


def test_only_texts_count_not_labels(files, write):
    files["train", "en"] = str(
        write("t.jsonl", [{"body": "test 3", "label": "n"}, *records("train", 2)])
    )
    assert Toy(files).dropped() == {"train": 1}


def test_training_rows_that_are_all_test_rows(files, write):
    files["train", "en"] = str(write("copy.jsonl", records("test", 30)))
    with pytest.raises(DataError) as caught:
        Toy(files).train()
    assert str(caught.value) == (
        f"the task toy has no training rows left: every text of {files['train', 'en']} is also an "
        "English validation or test text; next: use a separate training file"
    )


def test_one_file_for_two_splits(files, tmp_path):
    english = files["test", "en"]
    with pytest.raises(DataError) as caught:
        Toy({**files, ("train", "en"): english})
    assert str(caught.value) == (
        f"{english} is used for both training and test (en) rows of the task toy; next: use "
        "a separate file for each"
    )
    (tmp_path / "link.jsonl").symlink_to(files["test", "si"])
    with pytest.raises(DataError, match=r"is used for both validation and test \(si\) rows"):
        Toy({**files, ("validation", "en"): str(tmp_path / "link.jsonl")})
    with pytest.raises(DataError, match=r"hub:x:train is used for both training and validation"):
        Toy({**files, ("train", "en"): "a/hub:x:train", ("validation", "en"): "a/hub:x:train"})


def test_held_out_validation_rows(files, write):
    del files["validation", "en"]
    double = [*records("train", 40), *records("train", 40), {"body": "test 1", "label": "p"}]
    files["train", "en"] = str(write("t.jsonl", double))
    task = Toy(files)
    train, validation = numbers(task.train()), numbers(task.validation())
    assert len(validation) == 2 * int(40 * HELD_OUT)
    assert not set(train) & set(validation)
    assert Counter(train + validation) == dict.fromkeys(range(40), 2)
    assert task.dropped() == {"train": 1}
    assert set(numbers(Toy(files, train_per_label=2).validation())) == set(validation)


def test_every_process_makes_the_same_choice(files):
    del files["validation", "en"]
    here = [numbers(rows) for rows in (Toy(files).train(), Toy(files).validation())]
    code = (
        "import sys, json; sys.path[:0] = [sys.argv[1]]; from test_sourced import Toy, numbers\n"
        "files = {tuple(key.split()): path for key, path in json.loads(sys.argv[2]).items()}\n"
        "print([numbers(rows) for rows in (Toy(files).train(), Toy(files).validation())])"
    )
    paths = json.dumps({" ".join(key): path for key, path in files.items()})
    there = subprocess.run(
        [sys.executable, "-c", code, os.path.dirname(__file__), paths],  # noqa: PTH120
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == str(here)


@pytest.mark.parametrize("number", [0, -1, 1.5, "3", True])
@pytest.mark.parametrize("name", ["train_per_label", "max_test"])
def test_numbers_out_of_range(files, name, number):
    with pytest.raises(DataError) as caught:
        Toy(files, **{name: number})
    assert str(caught.value) == f"{name} is {number!r}; allowed: a positive integer, or None"


def test_a_wrong_label_is_reported_with_its_line(files, write):
    files["test", "si"] = str(
        write("s.jsonl", [{"body": "a", "label": "P"}, {"body": "b", "label": "x"}])
    )
    with pytest.raises(DataError) as caught:
        Toy(files).test("si")
    assert str(caught.value) == f"{files['test', 'si']}, line 2 has the label 'x'; allowed: p, n"


def test_dataset_info_read_no_rows(files, write):
    files["test", "si"] = str(write("damaged.jsonl", [{"no": "row"}] * 7))
    info = Toy(files).dataset_info()
    assert (info.place, info.train, info.validation) == ("local", 40, 10)
    assert info.test == {"en": 30, "si": 7, "ja": 15}


def test_dataset_info_of_what_is_there_in_part(files):
    task = Toy({**files, ("test", "si"): "me/mine:si:test", ("test", "ja"): None})
    task.published = {"train": 1, "test": 99}
    info = task.dataset_info()
    assert info.place == "local, 3 of 5 files"
    assert info.test == {"en": 30, "si": 99, "ja": None}
    assert Toy({("train", "en"): "me/mine", ("test", "en"): None}).dataset_info().place == "not yet"
