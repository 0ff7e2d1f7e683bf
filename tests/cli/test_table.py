import csv
import io

import pytest

from layerbridge.evaluation.comparison import compare
from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.report.tables import accuracy_table, macro_f1_table


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
    result = command("table", tmp_path / "runs")
    assert (result.code, result.err) == (0, "")
    assert result.out == accuracy_table(results).markdown()
    again = command("table", *sorted((tmp_path / "runs").iterdir()), "--format", "markdown")
    assert again.out == result.out


def test_intervals(command, results, tmp_path):
    result = command("table", tmp_path / "runs", "--intervals")
    assert result.out == accuracy_table(results).markdown(intervals=True)
    assert result.out != accuracy_table(results).markdown()


def test_csv(command, results, tmp_path):
    result = command("table", tmp_path / "runs", "--format", "csv")
    assert result.out == accuracy_table(results).csv()
    assert [row["method"] for row in csv.DictReader(io.StringIO(result.out))] == [
        "last",
        "token-softmax",
    ]


def test_latex(command, results, tmp_path):
    result = command("table", tmp_path / "runs", "--format", "latex", "--intervals")
    assert result.out == accuracy_table(results).latex(intervals=True)
    assert result.out.startswith("\\begin{tabular}")


def test_rich(command, results, tmp_path):
    result = command("table", tmp_path / "runs", "--format", "rich")
    assert "token-softmax" in result.out
    assert "70.0" in result.out


@pytest.fixture
def seeds(tmp_path):
    made = []
    for method, right in (("last", (2, 3, 4)), ("token-softmax", (14, 15, 17))):
        for seed, count in enumerate(right):
            answers = [Prediction(str(n), "yes", "no", n < count) for n in range(20)]
            languages = {code: LanguageResult.of(answers) for code in ("si", "ta")}
            made.append(Result(method, "names", "score", "test", seed, languages))
            made[-1].write(tmp_path / "seeds" / f"{method}-{seed}.json")
    return made


def test_seeds_are_one_row_unless_taken_apart(command, seeds, tmp_path):
    result = command("table", tmp_path / "seeds")
    assert result.out == accuracy_table(seeds).markdown()
    assert "| token-softmax | 3 | 76.7 |" in result.out
    result = command("table", tmp_path / "seeds", "--by-seed")
    assert result.out == accuracy_table(seeds, by_seed=True).markdown()
    assert "| token-softmax | 2 | 85.0 |" in result.out


def test_marks(command, seeds, tmp_path):
    result = command("table", tmp_path / "seeds", "--against", "last", "--intervals")
    expected = accuracy_table(seeds, comparisons=compare(seeds, "last"))
    assert result.out == expected.markdown(intervals=True)
    assert "| token-softmax | 3 | 76.7▲ (" in result.out
    assert "▲ better, ▼ worse than last" in result.out


def test_marks_against_a_method_that_is_not_there(command, seeds, tmp_path):
    result = command("table", tmp_path / "seeds", "--against", "lst")
    assert (result.code, result.out) == (2, "")
    assert result.err == ("error: no result of the method 'lst'; allowed: last, token-softmax\n")


def test_macro_f1(command, tmp_path):
    answers = [Prediction(str(n), "ab"[n == 0], "a", n > 0) for n in range(10)]
    made = Result("last", "names", "score", "test", 0, {"en": LanguageResult.of(answers)})
    path = made.write(tmp_path / "r.json")
    result = command("table", path)
    assert result.err == (
        "note: some labels have many more rows than others; --macro-f1 counts each the same\n"
    )
    assert "| last | 90.0 |" in result.out
    result = command("table", path, "--macro-f1")
    assert (result.code, result.err) == (0, "")
    assert result.out == macro_f1_table([made]).markdown()
    assert "| last | 47.4 |" in result.out
    result = command("table", path, "--macro-f1", "--intervals")
    assert result.err == "error: macro-F1 has no intervals; next: drop --intervals\n"


def test_a_run_is_named_on_the_command_line(command, results, tmp_path):
    runs = tmp_path / "runs"
    result = command("table", f"mine={runs / 'last'}", runs / "token-softmax", "--against", "mine")
    assert (result.code, result.err) == (0, "")
    assert [line.split(" | ")[0] for line in result.out.splitlines()[2:4]] == [
        "| mine",
        "| token-softmax",
    ]


def test_marks_and_seeds_apart_do_not_go_together(command, seeds, tmp_path):
    result = command("table", tmp_path / "seeds", "--against", "last", "--by-seed")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "error: --against compares methods across seeds, --by-seed shows each seed; next: drop one "
        "of them\n"
    )


def test_no_results(command, tmp_path):
    result = command("table", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"error: {tmp_path} has no result files; next: create one with layerbridge evaluate\n"
    )
    result = command("table", tmp_path / "absent")
    assert (result.code, len(result.err.splitlines())) == (2, 1)
