"""What works, and what a verb says, where only the core dependencies are installed."""

import json
import subprocess
import sys
from pathlib import Path

import core_install
import pytest

from made_results import result

SOURCE = Path(core_install.__file__).parents[2] / "src"

# Loads a bridge, then runs the command lines on stdin; what they printed is the last line. What
# else only a fresh process can tell is told here, because torch takes seconds to import.
SCRIPT = """
import contextlib, io, json, sys, warnings
with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()) as said:
    warnings.simplefilter("error")
    import layerbridge.models.bridge
assert said.getvalue() == "", said.getvalue()
import torch
from layerbridge.models.fusion.token_softmax import TokenSoftmax
from layerbridge.models.hidden_states import HiddenStates
TokenSoftmax(2, 8)(HiddenStates(torch.zeros(2, 1, 1, 8), torch.ones(1, 1)))
assert "layerbridge.models.fusion.token_softmax_kernel" not in sys.modules, "for nothing"
import layerbridge
from layerbridge.cli.app import main
bridge = layerbridge.LayerBridge.from_pretrained(sys.argv[1], dtype="float32")
assert len(bridge.generate_text("the market", max_new_tokens=1)) == 1
results = []
for words in json.load(sys.stdin):
    sys.argv = ["layerbridge", *words]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as left:
            results.append((left.code, out.getvalue(), err.getvalue()))
print(json.dumps(results))
"""

TASK = """
name: mine
template: "Text: {text} Kind: "
labels: {a: country, b: unit}
files: {train: train.jsonl, test: {en: test.jsonl}}
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Runs Python without any package of an extra."""
    folder = tmp_path_factory.mktemp("core")
    core_install.link(folder)

    def run(*words, stdin=""):
        return subprocess.run(
            [sys.executable, "-S", *map(str, words)],
            input=stdin,
            env={"PYTHONPATH": f"{folder}:{SOURCE}", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return run


def test_the_verbs(python, trained, rows, folder, tmp_path):
    for method in ("last", "token-softmax"):
        result(method, en="1100", si="1000").write(tmp_path / "results" / f"{method}.json")
    (tmp_path / "train.jsonl").write_text('{"text": "the", "label": "a"}\n')
    (tmp_path / "test.jsonl").write_text('{"text": "a market", "label": "a"}\n')
    (tmp_path / "task.yaml").write_text(TASK)
    task = ["--task", tmp_path / "task.yaml"]
    models = ["--encoder", folder("xlm-r"), "--language-model", folder("llama"), "--device", "cpu"]
    works = [
        ["train", "--data", rows, *models, "--max-steps", 1, "-o", tmp_path / "run"],
        ["ask", trained, "the market", "--device", "cpu"],
        ["zoo", "list"],
        ["tasks"],
    ]
    needs = [
        (["evaluate", trained, *task], "scipy", "eval"),
        (["baseline", "tf-idf", *task], "scipy", "eval"),
        (["compare", tmp_path / "results"], "scipy", "eval"),
        (["table", tmp_path / "results", "--against", "last"], "scipy", "eval"),
        (["plot", tmp_path / "results", "-o", tmp_path], "scipy", "eval"),
        (["plot", "sentence", trained, "x", "-o", tmp_path], "matplotlib", "plots"),
        (["report", tmp_path / "results", "-o", tmp_path / "r.html"], "scipy", "eval"),
        (["serve", trained], "fastapi", "serve"),
        (["demo", "-o", tmp_path / "demo"], "babel", "zoo"),
        (["train", "--task", "names", *models, "-o", tmp_path / "named"], "babel", "zoo"),
        (["bench", "serve", trained, "--engines", "torch"], "babel", "zoo"),
    ]
    lines = [*works, *(words for words, _, _ in needs)]
    lines = [list(map(str, words)) for words in lines]
    results = json.loads(python("-c", SCRIPT, trained, stdin=json.dumps(lines)).splitlines()[-1])
    for words, (code, _, err) in zip(works, results, strict=False):
        assert code == 0, (words, err)
    assert results[3][2] == (
        "note: names is left out: this needs babel, which is not installed; next: pip install "
        "'layerbridge[zoo]'\n"
    )
    for (words, package, extra), (code, out, err) in zip(needs, results[4:], strict=True):
        assert (code, out) == (2, ""), (words, err)
        assert err == (
            f"error: this needs {package}, which is not installed; next: pip install "
            f"'layerbridge[{extra}]'\n"
        ), words
    assert not (tmp_path / "named").exists()


HELP = """
import contextlib, io, sys
from typer.main import get_command
from layerbridge.cli.app import app, main
lines = [["--help"]]
for name, verb in get_command(app).commands.items():
    lines.append([name, "--help"])
    lines += [[name, inner, "--help"] for inner in getattr(verb, "commands", ())]
for words in lines:
    sys.argv = ["layerbridge", *words]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main()
        except SystemExit as left:
            assert left.code == 0, words
    assert "Usage: layerbridge" in out.getvalue(), words
print(len(lines), "torch" in sys.modules)
"""


def test_help(python):
    count, torch_is_loaded = python("-c", HELP).split()
    assert int(count) > 25
    assert torch_is_loaded == "False"
    assert "Usage: layerbridge" in python("-m", "layerbridge", "--help")
