import csv
import io

import pytest

from layerbridge import tasks
from layerbridge.errors import ResultError
from layerbridge.results import LanguageResult, Prediction, Result
from layerbridge.tables import accuracy_table


def result(
    method="last", seed=0, protocol="score", task="names", split="test", labels=None, **right
):
    """A result with right[code] of 10 rows right in each language; English comes last."""
    languages = {
        code: LanguageResult.of(
            Prediction(f"{code}{i}", (labels or {}).get(f"{code}{i}", "yes"), "x", i < count)
            for i in range(10)
        )
        for code, count in right.items()
    }
    return Result(method, task, protocol, split, seed, languages)


TWO = [
    result("tf-idf | 100 % a_b & c", protocol="classifier", si=2, ta=3, en=7),
    result("last", si=6, ta=5, en=8),
]


def test_markdown():
    assert accuracy_table(TWO).markdown() == (
        "| method | en | si | ta | average of 2 (95 % interval) |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| tf-idf \\| 100 % a_b & c | 70.0 | 20.0 | 30.0 | 25.0 (13.0–46.7) |\n"
        "| last | 80.0 | 60.0 | 50.0 | 55.0 (35.5–72.5) |\n"
    )


def test_markdown_with_intervals():
    line = accuracy_table(TWO).markdown(intervals=True).splitlines()[-1]
    assert line == (
        "| last | 80.0 (49.0–94.3) | 60.0 (31.3–83.2) | 50.0 (23.7–76.3) | 55.0 (35.5–72.5) |"
    )


def test_csv():
    first, second = csv.DictReader(io.StringIO(accuracy_table(TWO).csv()))
    assert first["method"] == "tf-idf | 100 % a_b & c"
    assert second == {
        "method": "last",
        **{"en": "80.0", "en_low": "49.0", "en_high": "94.3"},
        **{"si": "60.0", "si_low": "31.3", "si_high": "83.2"},
        **{"ta": "50.0", "ta_low": "23.7", "ta_high": "76.3"},
        **{"average": "55.0", "average_low": "35.5", "average_high": "72.5"},
    }


def test_latex():
    assert accuracy_table([*TWO, result("a\\b~{c}^$#", si=0, ta=0, en=0)]).latex() == (
        "\\begin{tabular}{lrrrr}\n"
        "\\toprule\n"
        "method & en & si & ta & average of 2 (95 \\% interval) \\\\\n"
        "\\midrule\n"
        "tf-idf | 100 \\% a\\_b \\& c & 70.0 & 20.0 & 30.0 & 25.0 (13.0--46.7) \\\\\n"
        "last & 80.0 & 60.0 & 50.0 & 55.0 (35.5--72.5) \\\\\n"
        "a\\textbackslash{}b\\textasciitilde{}\\{c\\}\\textasciicircum{}\\$\\# "
        "& 0.0 & 0.0 & 0.0 & 0.0 (0.0--19.6) \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


def shown(table, width=80):
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def test_rich():
    text = shown(accuracy_table([result("[bold]x", si=2, en=7)]).rich(), width=100)
    assert "[bold]x" in text
    assert "70.0" in text


def test_rich_fits_a_terminal_with_many_languages():
    many = dict.fromkeys(tasks.get("names").languages, 5)
    text = shown(accuracy_table([result("one", **many), result("two", **many)]).rich())
    lines = [line.split() for line in text.splitlines()]
    assert ["sw", "50.0", "50.0"] in lines
    assert "…" not in text


def test_seeds_are_shown_where_a_method_repeats():
    table = accuracy_table([result(seed=0, si=2), result(seed=1, si=3), result("other", si=4)])
    assert table.labels == ("method", "seed")
    assert [row.labels for row in table.rows] == [("last", "0"), ("last", "1"), ("other", "0")]
    assert accuracy_table(TWO).labels == ("method",)


def test_the_average_is_over_languages_that_all_have():
    table = accuracy_table([result(si=2, ta=9, en=1), result("b", si=4, am=5)])
    assert table.languages == ("en", "si", "ta", "am")
    assert table.averaged == ("si",)
    lines = table.markdown().splitlines()
    assert lines[2] == "| last | 10.0 | 20.0 | 90.0 | – | 20.0 (5.7–51.0) |"
    assert lines[3] == "| b | – | 40.0 | – | 50.0 | 40.0 (16.8–68.7) |"
    assert table.csv().splitlines()[2].startswith("b,,,,40.0,")


def test_english_alone_has_no_average():
    table = accuracy_table([result(en=5)])
    assert table.markdown().splitlines()[0] == "| method | en |"
    assert table.csv().splitlines()[0] == "method,en,en_low,en_high"
    assert table.latex().startswith("\\begin{tabular}{lr}\n")


def refusal(*results):
    with pytest.raises(ResultError) as error:
        accuracy_table(results)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "other"), [("task", "xnli"), ("split", "validation"), ("protocol", "generate")]
)
def test_different_settings_are_refused(name, other):
    first = result(si=1)
    assert refusal(first, result("b", si=1, **{name: other})) == (
        f"last has the {name} {getattr(first, name)!r} and b {other!r}; "
        f"allowed: one {name} a table; next: make one table for each {name}"
    )


def test_a_classifier_stands_beside_one_protocol_not_two():
    floor = result("floor", protocol="classifier", si=1)
    accuracy_table([floor, result(si=1), floor])
    accuracy_table([result(si=1), floor, result(seed=1, si=1)])
    assert "protocol" in refusal(floor, result(si=1), result("b", protocol="generate", si=1))


def test_different_rows_are_refused():
    short = result("b", si=1)
    short.languages["si"] = LanguageResult.of(short.languages["si"].predictions[:9])
    assert refusal(result(si=1, en=1), short) == (
        "last and b were tested on different rows in si: 10 and 9; "
        "row 'si9': label 'yes' and no such row; allowed: the same rows for every result; "
        "next: evaluate both with the same task, options and versions"
    )
    assert "row 'si3': label 'yes' and label 'no'" in refusal(
        result(si=1), result("b", si=1, labels={"si3": "no"})
    )


def test_no_results():
    assert refusal() == "there are no results to compare; allowed: one or more"
