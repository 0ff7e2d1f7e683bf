import csv
import io
import json
import subprocess
import sys

import pytest

from layerbridge.evaluation.comparison import compare
from layerbridge.report.tables import effect_table
from made_results import result

LAST = ("1100000000", "1000000000", "1100100000")
TOKEN = ("1111111100", "1111101100", "1111111110")


@pytest.fixture
def results(tmp_path):
    made = [
        result(method, seed, **dict.fromkeys(("en", "si", "ta"), right))
        for method, seeds in (("last", LAST), ("token-softmax", TOKEN))
        for seed, right in enumerate(seeds)
    ]
    for one in made:
        one.write(tmp_path / "runs" / f"{one.method}-{one.seed}.json")
    return made


def test_markdown_is_what_a_pipe_gets(command, results, tmp_path):
    outcome = command("compare", tmp_path / "runs")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == effect_table(compare(results, "last")).markdown()
    assert "| token-softmax | 3 | si | +60.0▲ |" in outcome.out


def test_a_run_is_named_on_the_command_line(command, results, tmp_path):
    files = [f"mine={tmp_path / 'runs' / f'last-{seed}.json'}" for seed in range(3)]
    others = sorted((tmp_path / "runs").glob("token-*"))
    outcome = command("compare", *files, *others, "--against", "mine", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert {(row["method"], row["against"], row["against_seeds"]) for row in rows} == {
        ("token-softmax", "mine", "3")
    }


def test_against_and_languages(command, results, tmp_path):
    words = ("--against", "token-softmax", "--languages", "si, en", "--no-seed-variance")
    outcome = command("compare", tmp_path / "runs", *words, "--format", "csv")
    found = compare(results, "token-softmax", languages=["si", "en"], other_seeds=False)
    assert outcome.out == effect_table(found).csv()
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert [row["language"] for row in rows] == ["en", "si", "average_fixed"]
    assert [row["mark"] for row in rows] == ["worse"] * 3


def test_latex_and_rich(command, results, tmp_path):
    outcome = command("compare", tmp_path / "runs", "--format", "latex")
    assert outcome.out.startswith("\\begin{tabular}")
    outcome = command("compare", tmp_path / "runs", "--format", "rich")
    assert outcome.out.split()[:2] == ["language", "token-softmax"]
    assert "Percentage points over last." in outcome.out


def test_json(command, results, tmp_path):
    outcome = command("compare", tmp_path / "runs", "--json")
    document = json.loads(outcome.out)
    (found,) = document["comparisons"]
    (expected,) = compare(results, "last")
    assert (found["method"], found["against"], found["seeds"]) == (
        "token-softmax",
        "last",
        [0, 1, 2],
    )
    assert found["languages"]["si"]["p_holm"] == expected.languages["si"].p_holm
    assert found["languages"]["si"]["discordant"] == [8, 0]
    assert found["average"]["high"] == expected.average.high
    assert "layerbridge" in document["versions"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--against", "lst"),
            "no result of the method 'lst'; allowed: last, token-softmax",
        ),
        (("--languages", "en,xx"), "no result has the language 'xx'; allowed: en, si, ta"),
    ],
)
def test_a_mistake_is_one_line(command, results, tmp_path, words, message):
    outcome = command("compare", tmp_path / "runs", *words)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"error: {message}\n")


def test_help(command):
    outcome = command("compare", "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert "│ compare " in command("--help").out


def test_it_loads_no_model_framework(results, tmp_path):
    code = (
        "import sys; from layerbridge.cli.app import main\n"
        f"sys.argv = ['layerbridge', 'compare', {str(tmp_path / 'runs')!r}, '--json']\n"
        "try: main()\n"
        "except SystemExit as left: assert left.code == 0\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'matplotlib', 'datasets', 'babel'}\n"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert outcome.stderr == "[]\n"
