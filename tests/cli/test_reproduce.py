"""``layerbridge reproduce`` on tiny models: paths, documents, and one line for each mistake."""

import json
from functools import partial

import pytest

LABELS = ("Business", "Entertainment", "Political", "Sports", "Science")


@pytest.fixture
def flags(folder, tmp_path):
    """Flags of a tiny table3: two rows a step, one row of each label to test on."""
    data = tmp_path / "data"
    data.mkdir()
    for name, word, times in (("train-en", "day", 4), ("test-en", "news", 1), ("test-si", "ම", 1)):
        lines = [
            json.dumps({"sentence": f"{word} {label.lower()} {n}", "label": label})
            for n in range(times)
            for label in LABELS
        ]
        (data / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [
        *("--preset", "demo", "--seeds", "0", "--data-dir", data, "-o", tmp_path / "out"),
        *("--encoder", folder("xlm-r"), "--language-model", folder("llama")),
        *("--max-rows", "15", "--max-test", "3", "--device", "cpu"),
    ]


def test_paths_on_stdout_and_the_table_on_stderr(command, flags, tmp_path, monkeypatch):
    from layerbridge.reproducing import accuracy

    # What takes long and is tested elsewhere.
    monkeypatch.setattr(accuracy, "_report", lambda request, found, path: path)
    monkeypatch.setattr(accuracy, "compare", partial(accuracy.compare, draws=50))
    monkeypatch.setattr("gc.collect", lambda *_: 0)
    result = command("reproduce", "table3", *flags)
    assert result.code == 0, result.err
    paths = result.out.splitlines()
    out = tmp_path / "out" / "table3" / "demo"
    assert paths[0] == f"{out}/tf-idf/seed-0/results/sinhala-news-classifier.json"
    assert paths[-2:] == [f"{out}/table.md", f"{out}/report.html"]
    assert "[6/6] token-softmax, seed 0" in result.err
    assert "71.66" in result.err

    again = command("reproduce", "table3", *flags, "--json")
    assert again.code == 0
    assert "6 of 6 runs are done already" in again.err
    document = json.loads(again.out)
    assert document["experiment"] == "table3"
    papers = {(row["method"], row["what"]): row["paper"] for row in document["paper"]}
    assert (papers["last", "si"], papers["token-softmax", "si"]) == (71.66, 75.86)


def test_a_dry_run(command, flags, tmp_path):
    result = command("reproduce", "table3", *flags, "--dry-run")
    assert (result.code, result.err) == (0, "")
    assert "token-softmax" in result.out
    assert not (tmp_path / "out").exists()
    document = json.loads(command("reproduce", "table3", *flags, "--dry-run", "--json").out)
    assert document["dry_run"]
    assert [job["method"] for job in document["jobs"]][-1] == "token-softmax"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table9"], "unknown experiment 'table9'; allowed: table1, table2, table3, table4, "
         "table5, figure2, xsid, sib200"),
        (["xsid", "--preset", "big"], "unknown preset 'big'; allowed: paper, small, demo"),
        (["xsid", "--seeds", "0,a"], "--seeds '0,a' is not a list of numbers; allowed: "
         "comma-separated integers, such as 0,1,2"),
        (["xsid", "--seeds", ""], "seeds are []; allowed: non-negative integers"),
        (["xsid", "--data-dir", "nowhere"], "the folder nowhere does not exist; next: "
         "check data_dir"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(command, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command("reproduce", *words)
    assert (result.code, result.out, result.err) == (2, "", f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_seeds_with_blanks(command, flags):
    result = command("reproduce", "table3", *flags, "--seeds", "0 2", "--dry-run", "--json")
    assert json.loads(result.out)["seeds"] == [0, 2]
