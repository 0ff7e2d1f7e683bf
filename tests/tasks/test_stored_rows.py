"""Rows on the disk are the rows in memory; what differs is only where they are."""

import csv
import gc
import pickle
import random
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from layerbridge.errors import DataError, OutputError
from layerbridge.tasks import get, records, stored_rows
from layerbridge.tasks.files import read_rows
from layerbridge.tasks.sourced import held_out
from layerbridge.tasks.stored_rows import BATCH, StoredRows, Texts, loaded, sample

WORDS = ["market", "ආයුබෝවන්", 'a "quoted" one', "two\nlines", "", "猫 🙂", "Ça va, toi?"]


def made(count, seed=0):
    draw = random.Random(seed)
    return [
        {
            "id": f"row-{n}",
            "text": " ".join(draw.choices(WORDS, k=draw.randint(0, 9))),
            "hint": draw.choice(WORDS),
            "label": draw.choice(["yes", "no"]),
            "other": n,
        }
        for n in range(count)
    ]


@pytest.fixture
def large(monkeypatch, tmp_path):
    """Makes every source a large one while it is called."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def read(source, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(records, "LARGE", 0)
            return read_rows(source, on_disk=True, **options)

    return read


@pytest.fixture
def sources(write, tmp_path, hub):
    """The same rows in every format."""
    import pyarrow
    import pyarrow.parquet

    content = made(3 * BATCH + 5)
    paths = [str(write("a.jsonl", content))]
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, delimiter=delimiter)
            table.writerows([list(content[0]), *(list(row.values()) for row in content)])
        paths.append(str(tmp_path / name))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), tmp_path / "a.parquet")
    hub.sets["some/rows", None, "train"] = (content, None)
    hub.files["some/rows", "a.jsonl"] = paths[0]
    return [
        *paths,
        str(tmp_path / "a.parquet"),
        "some/rows::train",
        "hf://datasets/some/rows/a.jsonl",
    ]


def kept(rows, columns):
    """Rows in memory with the fields that the disk keeps."""
    return [
        replace(row, fields={name: row.fields[name] for name in columns if name in row.fields})
        for row in rows
    ]


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ({}, ("text", "label", "id")),
        ({"text": "hint", "target": "other"}, ("hint", "other", "id")),
        ({"template": "{hint}: {text} Label: "}, ("hint", "text", "label", "id")),
    ],
)
def test_the_rows_of_every_source_are_those_in_memory(sources, large, options, columns):
    for source in sources:
        rows = large(source, **options)
        assert isinstance(rows, StoredRows), source
        assert list(rows) == kept(read_rows(source, **options), columns), source
        assert [rows[n] for n in (0, BATCH, len(rows) - 1, -1)] == [
            list(rows)[n] for n in (0, BATCH, len(rows) - 1, -1)
        ]


def test_numbers_are_the_ids_unless_the_data_has_unique_ones(write, large, capfd):
    content = [{**row, "label": "maybe" if n % 3 else "no"} for n, row in enumerate(made(9))]
    for ids in (lambda n: "same", lambda n: None, lambda n: f"{n}" if n else ""):
        source = write("a.jsonl", [{**row, "id": ids(n)} for n, row in enumerate(content)])
        said = []
        for read in (read_rows, large):
            rows = read(source, options=["no"], skip_unknown=True)
            said.append(
                [line for line in capfd.readouterr().err.splitlines() if "left out" in line]
            )
            assert [row.id for row in rows] == ["1", "4", "7"]
        assert said[0] == said[1] == [f"rows left out of {source}: 6 with other labels (maybe 6)"]


HEAD = b'{"text": "a", "label": "x"}\n'
BAD = {
    "broken.jsonl": HEAD * 2 + b'{"text": \n',
    "list.jsonl": HEAD + b"[1]\n",
    "missing.jsonl": HEAD + b'{"label": "x"}\n',
    "no-column.jsonl": b'{"words": "a", "label": "x"}\n',
    "unlabeled.jsonl": HEAD + b'{"text": "a", "label": " "}\n',
    "unknown.jsonl": HEAD + b'{"text": "a", "label": "z"}\n',
    "half.jsonl": HEAD + b'{"text": "\\ud83d", "label": "x"}\n',
    "latin.jsonl": HEAD * 9000 + b'{"text": "\xe9", "label": "x"}\n',
    "latin.csv": b"text,label\n" + b"a,x\n" * 9000 + b"\xe9,x\n",
    "cells.csv": b"text,label\na,x\nb,x,y\n",
    "open.csv": b'text,label\na,x\n"b,x\n',
    "twice.csv": b"text,text,label\na,b,x\n",
    "swallowed.csv": b'text,label\na,x\n"b,x\nc,y\nd"e,x\n'.replace(b'd"e', b'd"'),
    "text.parquet": b"no table",
    "empty.csv": b"",
}


@pytest.mark.parametrize("name", BAD)
def test_an_error_names_the_same_row(name, large, tmp_path):
    path = tmp_path / name
    path.write_bytes(BAD[name])
    told = []
    for read in (read_rows, large):
        with pytest.raises(DataError) as error:
            read(path, options=["x", "y"])
        told.append(str(error.value))
    # A row that a large file lacks ends the reading before it is known to be the only one.
    assert told[0] == told[1] or name == "empty.csv"
    assert str(path) in told[1]
    if name.startswith("latin"):
        assert "line 900" in told[1]
        assert list((tmp_path / "cache").glob("*.arrow")) == []


def test_selections_slices_and_other_processes(sources, large):
    rows = large(sources[0])
    every = list(rows)
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = rows.select(order)
    assert list(shuffled) == [every[n] for n in order]
    assert list(shuffled[3:40:5]) == [every[n] for n in order[3:40:5]]
    assert list(shuffled.select(np.array([7, 2]))) == [every[order[7]], every[order[2]]]
    assert list(rows[5:1]) == []
    assert not rows[:0]
    with pytest.raises(IndexError):
        shuffled[len(order)]
    assert list(pickle.loads(pickle.dumps(shuffled))) == list(shuffled)
    assert shuffled.characters.tolist() == [len(row.text + row.target) for row in shuffled]
    texts = Texts(shuffled)
    assert (len(texts), texts[2], texts[:3]) == (len(rows), every[order[2]].text, list(texts)[:3])


def test_the_file_is_removed_with_its_last_rows(sources, large, tmp_path):
    rows = large(sources[0])
    part = rows[:3]
    (file,) = (tmp_path / "cache").iterdir()
    copy = pickle.loads(pickle.dumps(part))
    del rows, copy
    gc.collect()
    assert [row.id for row in part] == ["row-0", "row-1", "row-2"]
    assert file.exists()
    del part
    gc.collect()
    assert not file.exists()


def test_samples_and_what_is_few_enough_for_memory(sources, large, monkeypatch):
    rows = large(sources[0])
    some = sample(rows, 20)
    assert [row.id for row in some] == [row.id for row in sample(rows, 20)]
    numbers = [int(row.id.removeprefix("row-")) for row in some]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 20
    assert sample(list(rows), 20) == list(rows)
    assert loaded(rows) == list(rows)
    monkeypatch.setattr(stored_rows, "FEW", 10)
    assert loaded(rows) is rows


@pytest.mark.parametrize("share", [None, 0.01, 0.3])
def test_the_same_rows_are_held_out(sources, large, share):
    rows = large(sources[0])
    for on_disk, in_memory in zip(held_out(rows, share), held_out(list(rows), share), strict=True):
        assert list(on_disk) == in_memory


def test_of_a_large_source_few_are_held_out_unless_a_share_is_asked_for(write, large, monkeypatch):
    monkeypatch.setattr("layerbridge.tasks.sourced.MOST_HELD_OUT", 3)
    rows = large(write("a.jsonl", [{"text": f"t{n}", "label": "x"} for n in range(100)]))
    assert [len(part) for part in held_out(rows)] == [97, 3]
    assert [len(part) for part in held_out(rows, 0.2)] == [80, 20]
    assert [len(part) for part in held_out(list(rows))] == [90, 10]


@pytest.mark.parametrize("options", [{}, {"train_per_label": 30}])
def test_a_task_gives_the_same_training_rows(write, tmp_path, large, monkeypatch, options):
    write("train.jsonl", made(150))
    write("test.jsonl", made(12, seed=1))
    (tmp_path / "task.yaml").write_text(
        "name: mine\ntemplate: '{text} Label: '\nlabels: ['yes', 'no']\n"
        "files: {train: train.jsonl, test: {en: test.jsonl}}\n"
    )
    file = str(tmp_path / "task.yaml")
    before = get(file, **options)
    train, validation = before.train(), before.validation()
    monkeypatch.setattr(records, "LARGE", 0)
    task = get(file, **options)
    rows = task.train()
    assert isinstance(rows, StoredRows)
    assert list(rows) == kept(train, ("text", "label", "id"))
    assert [row.id for row in task.validation()] == [row.id for row in validation]
    assert task.dropped() == before.dropped()


def test_no_room_on_the_disk(write, large, monkeypatch):
    source = write("a.jsonl", made(20))
    usage = stored_rows.shutil.disk_usage(".")
    monkeypatch.setattr(stored_rows.shutil, "disk_usage", lambda _: usage._replace(free=99))
    with pytest.raises(OutputError, match=r"the rows of .*a\.jsonl take .* and .* has 99 bytes fr"):
        large(source)


def test_memory_does_not_grow_with_the_rows(write, large):
    peaks = []
    for count in (3000, 12_000):
        source = write(
            "a.jsonl", [{"text": "a market " * 40, "label": str(n % 3)} for n in range(count)]
        )
        tracemalloc.start()
        rows = large(source)
        for _ in rows:
            pass
        held_out(rows)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What a row leaves is a few numbers.
    assert (peaks[1] - peaks[0]) / 9000 < 80
