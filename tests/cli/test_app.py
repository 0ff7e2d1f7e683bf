import json
import re
import resource
import subprocess
import sys

import pytest

from layerbridge.version import __version__

VERBS = (
    *("demo", "train", "evaluate", "baseline", "tasks", "ask", "table", "compare"),
    *("plot", "report", "reproduce", "zoo", "bench"),
)


def test_help_names_every_verb(command):
    result = command("--help")
    assert (result.code, result.err) == (0, "")
    for verb in VERBS:
        assert f"│ {verb} " in result.out


@pytest.mark.parametrize("words", [(), ("plot",), ("zoo",), ("bench",)])
def test_the_help_of_every_verb_is_one_line(command, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    page = command(*words, "--help").out
    rows = page[page.index("─ Commands ") :].splitlines()[1:]
    lines = [line[2:-2] for line in rows if line.startswith("│")]
    assert len(lines) > 2
    for line in lines:
        # A continued line begins with spaces, and a cut one ends in an ellipsis.
        assert re.fullmatch(r"[a-z-]+ +[A-Z].*[^.…]\.", line.rstrip()), line


@pytest.mark.parametrize("words", [("train",), ("evaluate",), ("ask",), ("zoo", "pull"), ("plot",)])
def test_every_verb_has_its_help(command, words):
    result = command(*words, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.lstrip().startswith(f"Usage: layerbridge {' '.join(words)} ")


def test_python_dash_m_is_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "layerbridge", "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == __version__


def test_version(command):
    result = command("--version")
    assert (result.code, result.out, result.err) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("words", [(), ("zoo",)])
def test_no_verb_is_help(command, words):
    result = command(*words)
    assert "Usage: layerbridge" in result.out + result.err
    assert "error:" not in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trian",), "No such command 'trian'.*; next: layerbridge --help"),
        (("evaluate",), "Missing argument.*; next: layerbridge evaluate --help"),
        (("ask",), "Missing argument.*; next: layerbridge ask --help"),
        (("ask", "run", "--optoins", "a"), "No such option: --optoins.*next: layerbridge ask"),
        (("train", "--task", "names"), "Missing option '--output'.*layerbridge train --help"),
        (("ask", "run", "--max-new-tokens", "0"), "Invalid value for '--max-new-tokens'"),
        (("table", "x", "--format", "html"), "Invalid value for '--format'.*'latex'"),
    ],
)
def test_a_wrong_command_line_is_one_line(command, words, message):
    result = command(*words)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line), line


def test_only_training_shares_its_work(command, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    result = command("demo")
    assert (result.code, result.out, result.err) == (
        2,
        "",
        "error: demo runs in one process, not under torchrun; next: layerbridge demo …\n",
    )
    assert "has neither a task nor data" in command("train", "-o", "x", "--encoder", "e",
                                                    "--language-model", "l").err  # fmt: skip


def test_an_interrupt_is_no_traceback(command, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("layerbridge.evaluation.results.find", interrupted)
    result = command("table", "runs")
    assert (result.code, result.out, result.err) == (130, "", "interrupted\n")


def test_a_bug_of_our_own_is_not_hidden(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("layerbridge.evaluation.results.find", broken)
    monkeypatch.setattr(sys, "argv", ["layerbridge", "table", "runs"])
    from layerbridge.cli.app import main

    with pytest.raises(RuntimeError, match="a bug"):
        main()


HEAVY = ("torch", "transformers", "datasets", "matplotlib", "scipy", "sklearn", "numpy", "babel")
PROBE = f"""
import json, sys
sys.argv = ["layerbridge", "--help"]
from layerbridge.cli.app import main
try:
    main()
except SystemExit as left:
    print(json.dumps([left.code, [name for name in {HEAVY!r} if name in sys.modules]]))
"""


def test_help_loads_no_framework():
    result = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(result.splitlines()[-1]) == [0, []]


def seconds(code):
    """The least processor time of the code in a process of its own, after five or half a second."""
    spent: list[float] = []
    while not spent or (min(spent) >= 0.5 and len(spent) < 5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = [sys.executable, "-c", code, "--help"]
        subprocess.run(words, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


def test_help_takes_less_than_half_a_second():
    taken = seconds("from layerbridge.cli.app import main; main()")
    # On a slow or busy machine: little more than what draws the page.
    assert taken < 0.5 or taken < 2.5 * seconds("import typer.rich_utils, rich.markdown")
