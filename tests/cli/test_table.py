import csv
import io

import pytest

from layerbridge.results import LanguageResult, Prediction, Result
from layerbridge.tables import accuracy_table


@pytest.fixture
def results(tmp_path):
    made = []
    for method, right in (("last", 3), ("token-softmax", 7)):
        languages = {
            code: LanguageResult.of(
                [Prediction(str(n), "yes", "no", n < right) for n in range(10)], [0.25, 0.75]
            )
            for code in ("en", "si")
        }
        made.append(Result(method, "names", "score", "test", 0, languages))
        made[-1].write(tmp_path / "runs" / method / "results" / "names.json")
    return made


def test_markdown_is_what_a_pipe_gets(command, results, tmp_path):
    said = command("table", tmp_path / "runs")
    assert (said.code, said.err) == (0, "")
    assert said.out == accuracy_table(results).markdown()
    again = command("table", *sorted((tmp_path / "runs").iterdir()), "--format", "markdown")
    assert again.out == said.out


def test_intervals(command, results, tmp_path):
    said = command("table", tmp_path / "runs", "--intervals")
    assert said.out == accuracy_table(results).markdown(intervals=True)
    assert said.out != accuracy_table(results).markdown()


def test_csv(command, results, tmp_path):
    said = command("table", tmp_path / "runs", "--format", "csv")
    assert said.out == accuracy_table(results).csv()
    assert [row["method"] for row in csv.DictReader(io.StringIO(said.out))] == [
        "last",
        "token-softmax",
    ]


def test_latex(command, results, tmp_path):
    said = command("table", tmp_path / "runs", "--format", "latex", "--intervals")
    assert said.out == accuracy_table(results).latex(intervals=True)
    assert said.out.startswith("\\begin{tabular}")


def test_rich(command, results, tmp_path):
    said = command("table", tmp_path / "runs", "--format", "rich")
    assert "token-softmax" in said.out
    assert "70.0" in said.out


def test_no_results(command, tmp_path):
    said = command("table", tmp_path)
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"error: {tmp_path} holds no result files; next: make one with layerbridge evaluate\n"
    )
    said = command("table", tmp_path / "absent")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
