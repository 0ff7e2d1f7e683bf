"""The command lines of a report run as they are printed."""

import json
import re
import shlex
from html import unescape

import pytest

from layerbridge.evaluation import results
from layerbridge.report.drawings import Drawing

TASK = """
name: mine
template: "Text: {text} Kind: "
labels: {a: country, b: unit}
files:
  train: train.jsonl
  test: {en: en.jsonl, si: si.jsonl}
"""


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Empty figures: drawing them is tested elsewhere."""

    def draw(id_, plot, data, **options):
        return Drawing(id_, "<svg></svg>", "<svg></svg>")

    monkeypatch.setattr("layerbridge.report.drawings.draw", draw)


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A task of one's own, in a folder of its own below the one that commands run in."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my data"
    folder.mkdir()
    for name, texts in (("train", "pqrstuvwxyz"), ("en", "klmno"), ("si", "abcde")):
        lines = [json.dumps({"text": text, "label": "ab"[ord(text) % 2]}) for text in texts]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    (folder / "task.yaml").write_text(TASK)
    return "my data/task.yaml"


def printed(page):
    """The words of each command line under "Reproduce"."""
    code = re.search(r"<code>(layerbridge .*?)</code>", page.read_text("utf-8"), re.DOTALL)
    return [shlex.split(line)[1:] for line in unescape(code[1]).splitlines()]


def test_a_task_of_ones_own_with_its_options_and_baselines(command, train_flags, task, tmp_path):
    lm = train_flags[train_flags.index("--language-model") + 1]
    options = ("--task-option", "max_test=3")
    done = [
        ("train", "--task", task, *train_flags[2:], "--max-steps", "1", "-o", "runs/a b"),
        ("evaluate", "runs/a b", "--device", "cpu", "--languages", "si,en", *options),
        ("baseline", "tf-idf", "--task", task, *options),
        ("baseline", "zero-shot-lm", "--task", task, *options, "--language-model", lm,
         "--prompt", "- {text}: ", "--device", "cpu", "--json"),
    ]  # fmt: skip
    report = ("report", "mine=runs/a b", "results", "--against", "mine", "-o", "my report.html")
    for words in (*done, report):
        outcome = command(*words)
        assert outcome.code == 0, outcome.err
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    lines = printed(tmp_path / "my report.html")
    assert [words[0] for words in lines] == ["train", "evaluate", "baseline", "baseline", "report"]
    for words in lines:
        outcome = command(*words)
        assert outcome.code == 0, (words, outcome.err)
    assert {path: path.read_bytes() for path in before} == before
    pairs = {
        "runs/a b/results/mine-score.json": "runs/a b-again/results/mine-score.json",
        "results/mine-tf-idf.json": "results-again/mine-tf-idf.json",
        "results/mine-zero-shot-lm.json": "results-again/mine-zero-shot-lm.json",
    }
    for first, again in pairs.items():
        made = [results.read(path) for path in (first, again)]
        assert made[0].languages == made[1].languages
        assert made[0].method == made[1].method
    page = (tmp_path / "my report-again.html").read_text("utf-8")
    assert "Gain over mine" in page
    # The second report leads to a third in the same way.
    assert len(printed(tmp_path / "my report-again.html")) == len(lines)


def test_results_without_a_command_line(command, trained, task, monkeypatch, tmp_path):
    """Those of Python and of 0.1."""
    from layerbridge import tasks
    from layerbridge.evaluation.baselines.tf_idf import tf_idf
    from layerbridge.evaluation.evaluator import evaluate
    from layerbridge.models.bridge import LayerBridge

    monkeypatch.chdir(tmp_path)
    bridge = LayerBridge.from_pretrained(trained, dtype="float32")
    mine = tasks.get(task, max_test=3)
    given = {"settings": {"task_options": {"max_test": 3}}}
    run = str(trained)
    evaluate(
        bridge, mine, ["si"], run=run, length_normalization="mean", protocol="score", **given
    ).write("out/bridge.json")
    floor = tf_idf(mine, ["si"])
    floor.settings["task_options"] = {"max_test": 3}
    floor.write("out/floor.json")
    other = tf_idf(mine, ["si"])
    other.settings.clear()
    results.Result(**{**other.__dict__, "method": "few-shot LM (8)"}).write("out/lm.json")
    assert command("report", "out", "-o", "r.html").code == 0
    lines = printed(tmp_path / "r.html")
    assert [words[0] for words in lines] == ["evaluate", "baseline", "report"]
    assert "No command is known for a result of few-shot LM (8)." in (
        tmp_path / "r.html"
    ).read_text("utf-8")
    for words in lines:
        outcome = command(*words)
        assert outcome.code == 0, (words, outcome.err)
    for name in ("bridge", "floor"):
        made = [results.read(f"{folder}/{name}.json") for folder in ("out", "out-again")]
        assert made[0].languages == made[1].languages
