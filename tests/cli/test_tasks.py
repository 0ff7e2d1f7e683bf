import json
import os
import subprocess
import sys
from functools import partial

import pytest

from layerbridge import tasks
from layerbridge.tasks import registry
from layerbridge.tasks.cldr_names import Names


@pytest.fixture
def xsid(tmp_path):
    """A folder with a few requests, one of them in training and test."""
    folder = tmp_path / "data" / "xsid"
    folder.mkdir(parents=True)
    for name, texts in (
        ("train-en", ("a", "b", "c")),
        ("valid-en", ("d",)),
        ("test-en", ("c", "e")),
        ("test-ja", ("f", "g")),
    ):
        lines = (json.dumps({"text": text, "intent": "PlayMusic"}) + "\n" for text in texts)
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


def test_the_list_is_on_stdout_a_line_a_task(command):
    result = command("tasks")
    assert (result.code, result.err) == (0, "")
    head, *lines = [line.split("\t") for line in result.out.splitlines()]
    assert head == [
        "task", "languages", "labels", "train", "validation", "test", "data", "license"
    ]  # fmt: skip
    assert [line[0] for line in lines] == list(tasks.names())
    found = {line[0]: line[1:] for line in lines}
    names = tasks.get("names")  # how many rows a language has depends on Babel's CLDR
    sizes = [len(names.test(language)) for language in names.languages]
    assert found["names"][1:6] == ["6", "738", "90", f"{min(sizes)}–{max(sizes)}", "built in"]
    assert found["xnli"][0] == "en ar bg de el es fr hi ru sw th tr ur vi zh"
    assert found["xsid"][1:6] == ["18", "?", "?", "?", "not yet, local files only"]
    assert found["sib200"][5:] == ["not yet", "CC-BY-SA-4.0"]


def test_the_list_as_json(command):
    found = {task["name"]: task for task in json.loads(command("tasks", "--json").out)}
    assert list(found) == list(tasks.names())
    xnli = found["xnli"]
    assert xnli["labels"] == ["Entailment", "Neutral", "Contradiction"]
    assert xnli["rows"]["train"] == 392702
    assert xnli["rows"]["test"] == dict.fromkeys(xnli["languages"], 5010)
    assert xnli["data"] == "not yet"


def test_a_registered_task_is_listed(command, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    tasks.register("few-names", partial(Names, train_per_kind=1))
    assert command("tasks").out.splitlines()[-1].split("\t")[3] == "6"
    assert "\ntrain\t6\n" in command("tasks", "few-names").out


def test_a_folder_of_folders(command, xsid):
    for folder in (xsid, xsid.parent):
        lines = command("tasks", "--data-dir", folder).out.splitlines()
        found = {line.split("\t")[0]: line.split("\t") for line in lines}
        assert found["xsid"][1:7] == ["en ja", "18", "3", "1", "2", "local"]
        assert found["xnli"][6] == "not yet"


def test_one_task(command, xsid):
    result = command("tasks", "xsid", "--data-dir", xsid)
    assert (result.code, result.err) == (0, "")
    lines = dict(line.split("\t") for line in result.out.splitlines())
    assert lines["test"] == "en 2, ja 2"
    assert lines["left out"] == "1 train (same text in English validation or test)"
    assert lines["template"] == "'Request: {text} Intent: '"
    one = json.loads(command("tasks", "xsid", "--data-dir", xsid, "--json").out)
    assert one["rows"] == {
        "train": 3, "validation": 1, "test": {"en": 2, "ja": 2}, "left_out": {"train": 1}
    }  # fmt: skip
    # Without the files nothing is read, so nothing is known to be left out.
    assert "left out" not in command("tasks", "xnli").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nmaes"], "unknown task 'nmaes'; allowed: names, xnli, "),
        (["names", "--data-dir", "here"], "the task names has no option 'data_dir'; allowed: lang"),
        (
            ["xnli", "--data-dir", "nowhere"],
            "the folder nowhere does not exist; next: check data_dir",
        ),
        (["mine.yaml"], "cannot read the task file mine.yaml (No such file or directory)"),
    ],
)
def test_what_is_unknown_is_one_line(command, words, message):
    result = command("tasks", *words)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith(f"error: {message}")


HEAVY = ("torch", "transformers", "datasets", "pyarrow", "matplotlib", "scipy", "sklearn", "numpy")
PROBE = f"""
import json, sys
sys.argv = ["layerbridge", "tasks", *sys.argv[1:]]
from layerbridge.cli.app import main
try:
    main()
except SystemExit as left:
    print(json.dumps([left.code, [name for name in {HEAVY!r} if name in sys.modules]]))
"""


def test_it_loads_no_framework_and_asks_no_network(xsid, tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:1", "HF_HUB_OFFLINE": "0"}
    environment["HF_HOME"] = str(tmp_path / "hf")
    # To shuffle rows that are there takes numpy.
    for words, loaded in (
        ([], []),
        (["xsid", "--data-dir", str(xsid)], ["numpy"]),
        (["sib200"], []),
    ):
        result = subprocess.run(
            [sys.executable, "-c", PROBE, *words],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(result.stdout.splitlines()[-1]) == [0, loaded], words
        assert result.stderr == ""
