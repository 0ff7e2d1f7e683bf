import json
import os
import shutil
import signal
import sys
from functools import partial
from itertools import chain

import pytest

import two_processes
from layerbridge import tasks
from layerbridge.cli.app import main
from layerbridge.evaluation import results
from layerbridge.evaluation.evaluator import evaluate
from layerbridge.evaluation.parts import Parts
from layerbridge.models.bridge import LayerBridge
from layerbridge.report.tables import accuracy_table, macro_f1_table


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_the_table_is_on_stdout_and_the_result_in_the_run(command, run, few_names):
    outcome = command(
        "evaluate", run, "--task", "names", "--languages", "en, si", "--device", "cpu"
    )
    path = run / "results" / "names-score.json"
    assert "### names, test split, protocol `score`" in (run / "README.md").read_text("utf-8")
    assert outcome.code == 0
    result = results.read(path)
    tables = accuracy_table([result]).markdown(intervals=True), macro_f1_table([result]).markdown()
    assert outcome.out == "\n".join(tables)
    note = (
        "note: not better than always answering the most frequent label in 2 of 2 languages: en, si"
    )
    assert outcome.err.splitlines() == ["names, score: 36/36  si", f"wrote {path}", note]
    assert list(result.languages) == ["en", "si"]
    assert [p.id for p in result.languages["si"].predictions] == [
        row.id for row in tasks.get("names").test("si")
    ]
    bridge = LayerBridge.from_pretrained(run, dtype="float32")
    same = evaluate(bridge, tasks.get("names"), ["en", "si"], batch_size=5)
    assert result.languages["si"].predictions == same.languages["si"].predictions
    assert (result.run, result.seed, result.method) == (str(run), 0, "token-softmax")


def test_a_language_by_another_code(command, run, few_names, tmp_path):
    outcome = command(
        "evaluate", run, "--task", "names", "--languages", "sin_Sinh, swa,sw", "--device", "cpu",
        "-o", tmp_path / "r.json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert list(results.read(tmp_path / "r.json").languages) == ["si", "sw"]


def test_json_is_the_file_and_nothing_else(command, run, few_names, tmp_path):
    output = tmp_path / "elsewhere" / "result.json"
    outcome = command(
        "evaluate", run, "--task", "names", "--languages", "si", "--json", "-o", output,
        "--protocol", "generate", "--training-seed", "3", "--device", "cpu", "--dtype", "float32",
    )  # fmt: skip
    assert outcome.code == 0
    assert outcome.out == output.read_text(encoding="utf-8")
    document = json.loads(outcome.out)
    assert (document["protocol"], document["seed"], list(document["languages"])) == (
        "generate",
        3,
        ["si"],
    )
    assert not (run / "results").exists()


MINE = """
name: mine
template: "Text: {text} Kind: "
labels: {a: country, b: unit}
files:
  train: train.jsonl
  test: {en: en.jsonl, si: si.jsonl}
"""


@pytest.fixture
def mine(tmp_path):
    """A task of one's own, with one training row that is a test row."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, texts in (("train", "pqrstuvwxyzk"), ("en", "klmno"), ("si", "abcde")):
        lines = [json.dumps({"text": text, "label": "ab"[ord(text) % 2]}) for text in texts]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    (folder / "task.yaml").write_text(MINE)
    return folder / "task.yaml"


def test_a_task_of_ones_own_from_training_to_result(command, train_flags, mine, tmp_path):
    run = tmp_path / "run"
    # Without the flag for data and its file.
    words = ("--max-steps", "1", "--seed", "4", "-o", run)
    outcome = command("train", "--task", mine, *train_flags[2:], *words)
    assert outcome.code == 0
    assert outcome.err.splitlines()[:2] == [
        "rows left out: 1 of train; their texts are also in the English validation or test rows",
        "10 English rows of mine, 1 step; loading the models …",
    ]
    with (mine.parent / "si.jsonl").open("a") as file:
        file.write(
            '\n{"text": null, "label": "a"}\n{"text": "' + "the market " * 9 + '", "label": "b"}'
        )
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "max_text_tokens": 24}))
    outcome = command("evaluate", run, "--device", "cpu", "--json")
    assert outcome.code == 0
    assert outcome.err.splitlines()[:2] == [
        "texts cut at 24 tokens: 1 of 7 in si",
        "empty texts: 1 of 7 in si",
    ]
    assert json.loads(outcome.out)["text_counts"] == {"si": {"cut": 1, "empty": 1}}
    outcome = command("evaluate", run, "--device", "cpu", "--task-option", "max_test=3")
    assert outcome.code == 0
    assert f"wrote {run / 'results' / 'mine-score.json'}" in outcome.err.splitlines()
    result = results.read(run / "results" / "mine-score.json")
    assert (result.task, list(result.languages)) == ("mine", ["en", "si"])
    assert result.seed == 4
    assert result.settings["task_options"] == {"max_test": 3}
    asked = tasks.get(str(mine), max_test=3).test("si")
    assert [p.id for p in result.languages["si"].predictions] == [row.id for row in asked]
    assert {p.label for p in result.languages["si"].predictions} <= {"country", "unit"}


@pytest.mark.parametrize("verb", ["tasks", "baseline", "evaluate", "train"])
def test_a_label_that_the_task_lacks(command, run, train_flags, mine, tmp_path, verb):
    rows = mine.parent / ("train.jsonl" if verb == "train" else "si.jsonl")
    with rows.open("a") as file:
        file.write('\n{"text": "z", "label": "c"}')
    words = {
        "tasks": ("tasks", mine),
        "baseline": ("baseline", "tf-idf", "--task", mine, "-o", tmp_path / "r.json"),
        "evaluate": ("evaluate", run, "--task", mine, "--device", "cpu"),
        "train": ("train", "--task", mine, *train_flags[2:], "-o", tmp_path / "new"),
    }[verb]
    outcome = command(*words)
    line = len(rows.read_text().splitlines())
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.splitlines()[-1].startswith(
        f"error: {rows}, line {line} has the label 'c'; allowed: a, b; next: --skip-unknown-labels "
    )
    outcome = command(*words, "--skip-unknown-labels")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count(f"rows left out of {rows}: 1 with other labels (c 1)") == 1


@pytest.mark.parametrize(
    ("in_config", "in_recipe", "flag", "expected"),
    [
        (7, "training: {seed: 7}\n", "0", 0),
        (None, "training: {seed: 5}\n", None, 5),  # a run of 0.1
        (None, None, None, None),
    ],
)
def test_the_seed_is_the_runs_unless_told(
    command, run, monkeypatch, in_config, in_recipe, flag, expected
):
    config = json.loads((run / "config.json").read_text("utf-8"))
    (run / "config.json").write_text(json.dumps({**config, "training_seed": in_config}))
    (run / "recipe.yaml").unlink()
    if in_recipe is not None:
        (run / "recipe.yaml").write_text(in_recipe)
    few = partial(tasks.get, test_per_kind=1)
    monkeypatch.setattr(tasks, "get", few)
    words = ["--training-seed", flag] if flag else []
    outcome = command("evaluate", run, "--task", "names", "--languages", "si", *words)
    assert outcome.code == 0
    assert results.read(run / "results" / "names-score.json").seed == (expected or 0)
    unknown = f"training seed of {run} unknown, recorded as 0; --training-seed N for another"
    assert (unknown in outcome.err.splitlines()) == (expected is None)


def test_the_runs_task_options_hold_unless_given_again(command, run, monkeypatch):
    (run / "recipe.yaml").write_text("task: names\ntask_options: {seed: 4, test_per_kind: 2}\n")
    seen = []
    inner = tasks.get

    def spy(name, **options):
        seen.append((name, options))
        return inner(name, **options)

    monkeypatch.setattr(tasks, "get", spy)
    words = ("evaluate", run, "--languages", "si", "--device", "cpu")
    assert command(*words).code == 0
    assert command(*words, "--task", "names", "--task-option", "test_per_kind=1").code == 0
    # The card asks for the task's data set, without options.
    assert [call for call in seen if call[1]] == [
        ("names", {"seed": 4, "test_per_kind": 2}),
        ("names", {"seed": 4, "test_per_kind": 1}),
    ]
    assert results.read(run / "results" / "names-score.json").languages["si"].n == 6


def test_rows_are_read_before_the_models(command, run, tmp_path):
    (tmp_path / "test-en.jsonl").write_text('{"text": "a", "intent": "nothing"}\n')
    (run / "model.safetensors").unlink()
    outcome = command("evaluate", run, "--task", "xsid", "--data-dir", tmp_path)
    assert outcome.code == 2
    assert outcome.err.startswith(
        f"error: {tmp_path / 'test-en.jsonl'}, line 1 has the label 'nothing'; allowed: weather/f"
    )


def test_no_task_anywhere(command, run, tmp_path):
    for place in (run, "me/mine"):
        outcome = command("evaluate", place)
        assert (outcome.code, outcome.out, outcome.err) == (
            2,
            "",
            f"error: no task given, and {str(place)!r} has no recipe.yaml that names one; "
            "next: --task NAME; layerbridge tasks lists them\n",
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--task", "nmaes"],
            "unknown task 'nmaes'; allowed: names, xnli, indicxnli, sinhala-news, "
            "amazon-reviews, xsid, sib200, masakhanews, or a YAML file of your own",
        ),
        (
            ["--task", "names", "--languages", "en,xx"],
            "the task names has no test rows in 'xx'; allowed: en, si, ta, as, am, ka, th, sw, bn, "
            "hi, ar, zh, ru, vi, de",
        ),
        (
            ["--task", "names", "--protocol", "guess"],
            "unknown protocol 'guess'; allowed: score, generate",
        ),
        (
            ["--task", "names", "--length-normalization", "max"],
            "unknown length normalization 'max'; allowed: sum, mean",
        ),
        (
            ["--task", "names", "--dtype", "int4"],
            "unknown dtype 'int4'; allowed: auto, float32, bfloat16, float16",
        ),
    ],
)
def test_what_is_unknown_is_one_line(command, run, words, message):
    outcome = command("evaluate", run, *words)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"error: {message}\n")
    assert not (run / "results").exists()


# Several processes, and evaluations that end early


def without_time(path):
    """What a result file says, but for when and with which words it was made."""
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["created"], document["settings"]["command"]
    return document


def test_two_processes_write_what_one_does_and_a_killed_one_goes_on(
    command, trained, few_names, tmp_path, monkeypatch
):
    runs = tmp_path / "runs"
    runs.mkdir()
    run = shutil.copytree(trained, tmp_path / "run")
    words = ["evaluate", str(run), "--task", "names", "--languages", "en,si,sw"]
    words += ["--device", "cpu", "--batch-size", "4", "--center", "batch"]

    def by_two(name, *more):
        argv = ["layerbridge", *words, "-o", str(runs / name), *more]
        monkeypatch.setattr(sys, "argv", argv)
        main()

    def killed(self, batch):
        add(self, batch)
        if os.environ["RANK"] == "1" and batch.batch > 4:
            os.kill(os.getpid(), signal.SIGKILL)

    add = Parts.add

    def work():
        for protocol in ("score", "generate"):
            with pytest.raises(SystemExit, match=r"^0$"):
                by_two(f"{protocol}.json", "--protocol", protocol)
        monkeypatch.setattr(Parts, "add", killed)
        by_two("killed.json")

    two_processes.run(work, runs, exits=(2, -signal.SIGKILL))
    errors = (tmp_path / "err-0").read_text().splitlines()
    ended = "error: another process of the run has ended; next: the same command with --resume"
    assert ended in errors
    assert (tmp_path / "err-1").read_text() == (tmp_path / "out-1").read_text() == ""
    parts = sorted(runs.glob("killed.json.part-*"))
    kept = [[json.loads(line)["batch"] for line in list(file.open())[1:]] for file in parts]
    assert len(kept) == 2
    assert sorted(path.name for path in runs.iterdir() if "killed" not in path.name) == [
        "generate.json", "score.json",
    ]  # fmt: skip
    for name, more in (("score", ()), ("generate", ("--protocol", "generate"))):
        assert command(*words, *more, "-o", tmp_path / "one.json").code == 0
        assert without_time(runs / f"{name}.json") == without_time(tmp_path / "one.json")

    done = []
    monkeypatch.setattr(
        Parts, "add", lambda self, batch: (done.append(batch.batch), add(self, batch))
    )
    outcome = command(*words, "-o", runs / "killed.json", "--resume")
    assert outcome.code == 0, outcome.err
    assert without_time(runs / "killed.json") == without_time(runs / "score.json")
    # No batch is done again, and none is left out.
    assert sorted([*done, *chain.from_iterable(kept)]) == list(range(15))
    assert len(done) < 10
    assert not list(runs.glob("*.part-*"))
