"""What all benchmarks do, shown on the small ones; each one's own facts are in the tests of it."""

import re
import shutil

import pytest

from layerbridge import tasks
from layerbridge.errors import DataError

NLI = {"entailment": "Entailment", "neutral": "Neutral", "contradiction": "Contradiction"}


def pairs(prefix, count=3):
    return [
        {"premise": f"{prefix} {n}", "hypothesis": "h", "label": list(NLI)[n % 3]}
        for n in range(count)
    ]


@pytest.fixture
def folder(write, tmp_path):
    for name, count in (("train-en", 9), ("dev-en", 3), ("test-en", 6), ("test-sw", 6)):
        write(f"{name}.jsonl", pairs(name, count))
    return tmp_path


def problem(name, **options):
    with pytest.raises(DataError) as caught:
        tasks.get(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def everything(task):
    return [
        task.train(),
        task.validation(),
        *(task.test(code) for code in task.languages),
    ]


def test_local_and_hub_rows_are_the_same(folder, hub):
    from datasets import ClassLabel, Value

    features = {
        "premise": Value("string"),
        "hypothesis": Value("string"),
        "label": ClassLabel(names=list(NLI)),
    }
    for language, split, name in (
        ("en", "train", "train-en"),
        ("en", "validation", "dev-en"),
        ("en", "test", "test-en"),
        ("sw", "test", "test-sw"),
    ):
        count = {"train": 9, "validation": 3, "test": 6}[split]
        numbered = [{**row, "label": n % 3} for n, row in enumerate(pairs(name, count))]
        hub.sets["facebook/xnli", language, split] = (numbered, features)
    local = tasks.get("xnli", data_dir=folder)
    there = tasks.get("xnli", languages=["sw"])
    assert local.languages == there.languages == ("en", "sw")
    assert everything(local) == everything(there)
    assert len(local.train()) == 9
    assert local.test("sw")[1].id == "2"
    assert there.version() == "facebook/xnli:en:test"


def test_the_version_of_local_files_is_their_content(folder, tmp_path):
    version = tasks.get("xnli", data_dir=folder).version()
    assert re.fullmatch(r"local files, sha256 [0-9a-f]{16}", version)
    copied = shutil.copytree(folder, tmp_path.with_name("elsewhere"))
    assert tasks.get("xnli", data_dir=copied).version() == version
    file = next(copied.rglob("test-sw*"))
    file.write_bytes(file.read_bytes().replace(b"sw", b"xx", 1))
    assert tasks.get("xnli", data_dir=copied).version() != version


def test_the_files_are_read_once_for_the_version(folder, monkeypatch):
    task = tasks.get("xnli", data_dir=folder)
    version = task.version()
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda _: pytest.fail("a file was read again"))
    assert task.version() == version


def test_nothing_is_asked_before_rows_are_file_names(hub):
    for name in tasks.names():
        task = tasks.get(name)
        assert task.languages[0] == "en"
        assert task.options
        assert task.licence
    assert hub.asked == []


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_every_format(folder, suffix):
    import csv

    import pyarrow
    import pyarrow.parquet

    rows = everything(tasks.get("xnli", data_dir=folder))
    for path in list(folder.glob("*.jsonl")):
        count = {"train-en": 9, "dev-en": 3}.get(path.stem, 6)
        content = pairs(path.stem, count)
        path.unlink()
        target = path.with_suffix(suffix)
        if suffix == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), target)
            continue
        with target.open("w", newline="") as file:
            writer = csv.DictWriter(file, content[0], delimiter="," if suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(content)
    assert everything(tasks.get("xnli", data_dir=folder)) == rows


def test_a_subfolder_of_the_tasks_name_and_training_rows_elsewhere(folder, tmp_path, write):
    rows = everything(tasks.get("xnli", data_dir=folder))
    (tmp_path / "data" / "xnli").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for path in list(folder.glob("*.jsonl")):
        name = "train" if path.stem == "train-en" else path.stem
        path.rename(tmp_path / "data" / "xnli" / f"{name}.jsonl")
    (tmp_path / "data" / "xnli" / "train.jsonl").rename(tmp_path / "other" / "train.jsonl")
    task = tasks.get("xnli", data_dir=[tmp_path / "data", tmp_path / "other"])
    assert everything(task) == rows
    alone = tasks.get("xnli", data_dir=tmp_path / "data")
    assert alone.test("sw") == rows[-1]
    with pytest.raises(DataError) as caught:
        alone.train()
    assert str(caught.value) == (
        f"the task xnli has no training rows in 'en' in {tmp_path / 'data' / 'xnli'}, "
        f"{tmp_path / 'data'}; allowed: train-en or train, ending in .jsonl, .csv, .tsv, .parquet; "
        "next: add a folder with --data-dir (data_dir in Python)"
    )


def test_languages_are_those_that_are_there(folder, write):
    assert tasks.get("xnli", data_dir=folder).languages == ("en", "sw")
    write("test-th.jsonl", pairs("th"))
    write("test-kk.jsonl", pairs("kk"))
    task = tasks.get("xnli", data_dir=str(folder))
    assert task.languages == ("en", "sw", "th")
    # Beyond the benchmark's own, whatever has a file can be asked for.
    assert len(task.test("kk")) == 3
    assert tasks.get("xnli", data_dir=folder, languages="kk,sw").languages == ("en", "kk", "sw")


def test_languages_that_are_not_there(folder):
    task = tasks.get("xnli", data_dir=folder)
    with pytest.raises(DataError) as caught:
        task.test("kk")
    assert str(caught.value) == "the task xnli has no test rows in 'kk'; allowed: en, sw"
    with pytest.raises(DataError, match=r"^the task xnli has no test rows in 'th' in "):
        task.check_language("th")
    known = "en, ar, bg, de, el, es, fr, hi, ru, sw, th, tr, ur, vi, zh"
    assert problem("xnli", languages=["sw", "kk"]) == (
        f"the task xnli has no test rows in 'kk'; allowed: {known}"
    )


def test_a_folder_without_the_task(tmp_path):
    (tmp_path / "empty").mkdir()
    assert problem("xnli", data_dir=tmp_path / "empty") == (
        f"no file of the task xnli in {tmp_path / 'empty'}; allowed: train-en, valid-en, "
        "test-LANGUAGE; columns premise, hypothesis, label"
    )
    assert problem("xnli", data_dir=str(tmp_path / "none")) == (
        f"the folder {tmp_path / 'none'} does not exist; next: check data_dir"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_dir": 3}, "an option of the task xnli has the wrong type ("),
        ({"languages": 3}, "an option of the task xnli has the wrong type ("),
        ({"max_test": 0}, "max_test is 0; allowed: a positive integer, or None"),
        (
            {"maxtest": 3},
            "the task xnli has no option 'maxtest'; allowed: data_dir, languages, train_per_label, "
            "max_test",
        ),
    ],
)
def test_options_that_do_not_fit(options, message):
    assert problem("xnli", **options).startswith(message)


def test_training_rows_that_are_test_rows(folder, write):
    (folder / "train-en.jsonl").unlink()
    (folder / "train.jsonl").symlink_to(folder / "test-en.jsonl")
    assert problem("xnli", data_dir=folder).startswith(
        f"{folder / 'test-en.jsonl'} is used for both training and test (en) rows"
    )
    (folder / "train.jsonl").unlink()
    write("train.jsonl", [*pairs("train"), *pairs("test-en", 2), *pairs("dev-en", 1)])
    task = tasks.get("xnli", data_dir=folder)
    assert len(task.train()) == 3
    assert task.dropped() == {"train": 3}


def test_no_network(hub):
    with pytest.raises(DataError) as caught:
        tasks.get("xnli").test("sw")
    assert str(caught.value) == (
        "cannot load the data set facebook/xnli:sw:test from the hub (no network); next: "
        "check the id and the network, or give a file"
    )


def test_dataset_info(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    info = tasks.get("xnli", data_dir=folder).dataset_info()
    assert (info.place, info.train, info.validation) == ("local", 9, 3)
    assert info.test == {"en": 6, "sw": 6}
    on_the_hub = tasks.get("xnli", languages=["sw", "th"])
    assert on_the_hub.dataset_info().place == "not yet"
    assert on_the_hub.dataset_info().test == dict.fromkeys(("en", "sw", "th"), 5010)
    (tmp_path / "cache" / "facebook___xnli" / "en" / "0").mkdir(parents=True)
    (tmp_path / "cache" / "facebook___xnli" / "th" / "0").mkdir(parents=True)
    assert on_the_hub.dataset_info().place == "hub cache, 4 of 5 files"
    (tmp_path / "cache" / "facebook___xnli" / "sw" / "0").mkdir(parents=True)
    assert on_the_hub.dataset_info().place == "hub cache"
