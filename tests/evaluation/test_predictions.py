"""From a task's rows through result files to what is compared: which rows are one item."""

import json
from dataclasses import replace
from zlib import crc32

import pytest

from layerbridge import tasks
from layerbridge.evaluation import results
from layerbridge.evaluation.comparison import compare
from layerbridge.evaluation.predictions import predict, rows_by_language
from layerbridge.evaluation.results import LanguageResult, Result
from layerbridge.report.tables import accuracy_table
from layerbridge.tasks.task import Row, Task

CODES = ("en", "fr", "de", "ja", "zh")
TASK = """
name: mine
template: "{{text}}"
labels: {{a: good, b: bad}}
parallel: {parallel}
files:
  train: train.jsonl
  test: {{en: en.jsonl, fr: fr.jsonl, de: de.jsonl, ja: ja.jsonl, zh: zh.jsonl}}
"""


@pytest.fixture
def task(tmp_path):
    """Whether it is parallel → a task of files with 60 rows of each language, sorted by label."""

    def make(parallel):
        for name in ("train", *CODES):
            rows = [{"text": f"{name} {n}", "label": "ab"[n // 30]} for n in range(60)]
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / f"{name}.jsonl").write_text(lines)
        path = tmp_path / "task.yaml"
        path.write_text(TASK.format(parallel=str(parallel).lower()))
        return tasks.get(str(path))

    return make


def answered(task, method, right, languages=None):
    """A result of a method that is right on the n-th row of every language if ``right(n)``."""

    def answer(batch):
        numbers = [index[row.language, row.id] for row in batch]
        wrong = ["" if right(n) else "wrong " for n in numbers]
        return [start + row.target for start, row in zip(wrong, batch, strict=True)]

    rows = rows_by_language(task, languages)
    index = {(code, row.id): n for code, of in rows.items() for n, row in enumerate(of)}
    found = predict(rows, answer, batch_size=7)
    entries = {code: LanguageResult.of(answers) for code, answers in found.items()}
    return Result(method, task.name, "score", "test", 0, entries)


def half(salt):
    return lambda n: crc32(f"{salt}/{n}".encode()) % 2 == 0


def both(task, folder, languages=None):
    """Two methods' results, written and read again."""
    for method in ("last", "token"):
        answered(task, method, half(method), languages).write(folder / f"{method}.json")
    return results.find(folder)


def without_items(folder):
    """The same files as 0.1 wrote them."""
    for path in folder.glob("*.json"):
        document = json.loads(path.read_text("utf-8"))
        for entry in document["languages"].values():
            for answer in entry["predictions"]:
                del answer["item"]
        path.write_text(json.dumps(document))
    return results.find(folder)


def widths(found):
    """Of the averages' intervals: a comparison's, the table's, and one language's in both."""
    (comparison,) = compare(found, "last", draws=2000)
    row = accuracy_table(found).rows[0]
    fixed, alone = comparison.average_fixed, comparison.languages["fr"]
    return [
        fixed.high - fixed.low,
        row.average.high - row.average.low,
        alone.high - alone.low,
        row.cells[1].high - row.cells[1].low,
    ]


def test_rows_that_are_not_translations_are_not_paired(task, tmp_path):
    """The n-th rows are right or wrong alike in every language, by chance: no covariance."""
    apart = widths(both(task(parallel=False), tmp_path / "apart"))
    assert apart[0] == pytest.approx(apart[2] / 2, rel=0.1)  # of four languages
    assert apart[1] == pytest.approx(apart[3] / 2, rel=0.1)


def test_translations_are_paired(task, tmp_path):
    shared = widths(both(task(parallel=True), tmp_path / "shared"))
    assert shared[0] == pytest.approx(shared[2], rel=0.1)
    assert shared[1] == pytest.approx(shared[3], rel=0.01)


@pytest.mark.parametrize("parallel", [True, False])
def test_files_without_items_mean_the_same(task, tmp_path, parallel):
    new = both(task(parallel), tmp_path / "files")
    old = without_items(tmp_path / "files")
    assert all(a.item is None for a in old[0].languages["fr"].predictions)
    assert compare(old, "last", draws=500) == compare(new, "last", draws=500)
    assert accuracy_table(old) == accuracy_table(new)
    # And one of each kind can be compared.
    assert compare([old[0], new[1]], "last", draws=500) == compare(new, "last", draws=500)
    # Written again they stay what they were.
    text = (tmp_path / "files" / "last.json").read_text("utf-8")
    assert json.loads(old[0].write(tmp_path / "again.json").read_text("utf-8")) == json.loads(text)


def test_names_are_paired_in_old_files_and_new_ones(tmp_path):
    task = tasks.get("names", test_per_kind=2)
    new = both(task, tmp_path / "files", ["en", "si", "ta"])
    old = without_items(tmp_path / "files")
    sinhala, tamil = (set(new[0].right(code)) for code in ("si", "ta"))
    assert sinhala & tamil
    for code in ("en", "si", "ta"):
        assert [old[0].item(code, a) for a in old[0].languages[code].predictions] == [
            a.id.partition("/")[2] for a in new[0].languages[code].predictions
        ]
    assert compare(old, "last", draws=500) == compare(new, "last", draws=500)


class Numbered(Task):
    """A task from outside the package: rows are numbered in each language."""

    name = "numbered"
    description = licence = ""
    options = ("yes", "no")
    languages = ("en", "fr", "de")
    template = "{text}"

    def __init__(self, items=False):
        self.items = items

    def _train(self):
        return []

    def _validation(self):
        return []

    def _test(self, language):
        return [
            Row(str(n), "x" * n, "yes", language, item=f"i{n}" if self.items else None)
            for n in range(20)
        ]


def test_a_task_that_names_no_items_shares_none():
    found = answered(Numbered(), "last", half(1))
    keys = [set(found.right(code)) for code in found.languages]
    assert len(set.union(*keys)) == 60
    named = answered(Numbered(items=True), "last", half(1))
    assert [*named.right("fr")] == [*named.right("de")] == [f"i{n}" for n in range(20)]
    # More rows, narrower.
    one, other = (each.average_non_english() for each in (found, named))
    assert one.high - one.low < 0.8 * (other.high - other.low)


def test_an_item_is_text_or_null(tmp_path):
    made = answered(Numbered(items=True), "last", half(1))
    path = made.write(tmp_path / "a.json")
    assert results.read(path) == made
    document = json.loads(path.read_text("utf-8"))
    document["languages"]["fr"]["predictions"][0]["item"] = 3
    path.write_text(json.dumps(document))
    with pytest.raises(results.ResultError) as error:
        results.read(path)
    assert str(error.value) == (
        f"{path}: languages.fr.predictions[0].item is 3; allowed: text or null"
    )
    empty = replace(made.languages["fr"].predictions[0], item="")
    alone = replace(made, languages={"fr": LanguageResult.of([empty])})
    assert results.read(alone.write(path)) == alone
