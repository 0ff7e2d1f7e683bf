import csv
import io
from dataclasses import replace

import pytest

from layerbridge import tasks
from layerbridge.errors import ResultError
from layerbridge.evaluation.comparison import compare, methods
from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.evaluation.statistics.proportions import wilson
from layerbridge.evaluation.statistics.seeds import mean_of_seeds
from layerbridge.report.tables import Cell, TableRow, accuracy_table


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


@pytest.mark.parametrize("by_seed", [False, True])
@pytest.mark.parametrize("right", [(6, 6, 6), (10, 10, 10), (0, 0, 0)])
def test_languages_that_share_items_tell_no_more_than_one(right, by_seed):
    made = result(**dict(zip(("si", "ta", "am"), right, strict=True)))
    for code, entry in list(made.languages.items()):
        shared = [replace(answer, item=answer.id[2:]) for answer in entry.predictions]
        made.languages[code] = LanguageResult.of(shared)
    (row,) = accuracy_table([made], by_seed=by_seed).rows
    assert alike(row.average, row.cells[0])


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


SEEDS = [result(seed=0, si=2, ta=6), result(seed=1, si=3, ta=8), result("other", si=4, ta=4)]


def test_several_seeds_are_one_row():
    table = accuracy_table(SEEDS)
    assert table.labels == ("method", "seeds")
    assert [row.labels for row in table.rows] == [("last", "2"), ("other", "1")]
    made = {code: methods(SEEDS)["last"].answers(code) for code in ("si", "ta")}
    last, other = table.rows
    assert last.cells == tuple(Cell(*mean_of_seeds({code: made[code]})) for code in ("si", "ta"))
    assert last.average == Cell(*mean_of_seeds(made))
    assert last.average.accuracy == pytest.approx((0.25 + 0.7) / 2)
    (alone,) = accuracy_table(SEEDS[2:]).rows
    assert other == TableRow(("other", "1"), alone.cells, alone.average)
    lines = table.markdown().splitlines()
    assert lines[0].startswith("| method | seeds | si | ta | average of 2")
    assert lines[2].startswith("| last | 2 | 25.0 | 70.0 | 47.5 (")


def alike(*cells):
    one, other = ((cell.accuracy, cell.low, cell.high) for cell in cells)
    return one == pytest.approx(other)


def test_a_row_for_every_seed():
    table = accuracy_table(SEEDS, by_seed=True)
    assert table.labels == ("method", "seed")
    assert [row.labels for row in table.rows] == [("last", "0"), ("last", "1"), ("other", "0")]
    assert alike(table.rows[1].cells[0], Cell(0.3, *wilson(3, 10)))
    assert accuracy_table(TWO, by_seed=True) == accuracy_table(TWO)
    assert accuracy_table(TWO).labels == ("method",)


def test_an_untrained_baseline_is_one_row_beside_every_seed():
    baselines = [replace(result("tf-idf", protocol="classifier", si=1, ta=1), run=r) for r in "abc"]
    table = accuracy_table([*baselines, *SEEDS])
    assert [row.labels for row in table.rows] == [("tf-idf", "1"), ("last", "2"), ("other", "1")]
    assert alike(table.rows[0].cells[0], Cell(0.1, *wilson(1, 10)))


def test_two_different_results_of_a_seed_stay_apart():
    twice = [replace(result(si=n), run=f"runs/{n}") for n in (2, 3)]
    table = accuracy_table(twice)
    assert table.labels == ("method", "seed", "run")
    assert [row.labels[2] for row in table.rows] == ["runs/2", "runs/3"]


def test_seeds_of_different_languages_stay_apart():
    table = accuracy_table([result(seed=0, si=2), result(seed=1, si=3, ta=4)])
    assert table.labels == ("method", "seed")
    assert table.rows[0].cells[1] is None


# Ten rows, and two seeds that answer alike.
MARKED = [
    result(method, seed, **right)
    for method, right in (
        ("last", {"si": 3, "ta": 5, "en": 9}),
        ("token", {"si": 6, "ta": 5, "en": 0}),
    )
    for seed in (0, 1)
]
LEGEND = (
    "▲ better, ▼ worse than last (p < 0.05). Languages: Holm-corrected. "
    "Average: holds for other languages too."
)


def marked(given=MARKED):
    return accuracy_table(given, comparisons=compare(given, "last"))


def test_marks_in_markdown():
    text = marked().markdown()
    plain = accuracy_table(MARKED).markdown()
    assert text == plain.replace("| 0.0 |", "| 0.0▼ |") + f"\n{LEGEND}\n"
    assert "| 0.0▼ (0.0–27.8) | 60.0 (" in marked().markdown(intervals=True)
    assert "**" not in text


def test_a_marked_average():
    better = [result("last", seed, si=1, ta=2) for seed in (0, 1)]
    better += [result("token", seed, si=9, ta=10) for seed in (0, 1)]
    line = marked(better).markdown().splitlines()[3]
    assert "| 90.0▲ | 100.0▲ | 95.0▲ (" in line


def test_marks_in_latex():
    text = marked().latex()
    assert "token & 2 & 0.0\\textsuperscript{$-$} & 60.0 & 50.0 & 55.0 (" in text
    assert text.endswith(
        "\\end{tabular}\n\\par\\smallskip{\\footnotesize \\textsuperscript{+} better, "
        "\\textsuperscript{$-$} worse than last (p $<$ 0.05). Languages: Holm-corrected. "
        "Average: holds for other languages too.}\n"
    )


ONE_SEED = "With one seed of a method, other seeds are not covered and no difference is marked."


def test_one_seed_has_no_marks():
    """Neither method, or only one of them, has several seeds: ten rows of ten are no proof."""
    for given in (MARKED[::2], MARKED[1:], MARKED[:3]):
        table = marked(given)
        shown_ = [table.markdown(), table.latex(), shown(table.rich(), width=120)]
        for text in shown_:
            assert " ".join(ONE_SEED.split()) in " ".join(text.split())
            assert not set("▲▼") & set(text)
            assert "textsuperscript" not in text
        rows = list(csv.DictReader(io.StringIO(table.csv())))
        assert {row[name] for row in rows for name in row if name.endswith("_mark")} == {""}
        assert float(rows[-1]["en_p"]) < 0.05


def test_some_comparisons_have_several_seeds():
    text = marked([*MARKED, result("other", si=10, ta=10, en=10)]).markdown()
    assert "| token | 2 | 0.0▼ |" in text
    assert "| other | 1 | 100.0 | 100.0 | 100.0 | 100.0 (" in text
    assert text.endswith(f"\n{LEGEND} {ONE_SEED}\n")


def test_marks_in_csv():
    first, second = csv.DictReader(io.StringIO(marked().csv()))
    assert (first["en_p"], first["en_mark"]) == ("", "")
    assert (second["en"], second["en_p"], second["en_mark"]) == ("0.0", "3.8e-05", "worse")
    assert (second["si_p"], second["si_mark"]) == ("0.29", "")
    assert list(second)[-5:] == [f"average{end}" for end in ("", "_low", "_high", "_p", "_mark")]


def test_marks_on_the_terminal():
    text = shown(marked().rich(), width=120)
    assert "0.0▼" in text
    assert " ".join(LEGEND.split()) in " ".join(text.split())
    many = dict.fromkeys(tasks.get("names").languages, 9)
    wide = [
        result(method, seed, **dict.fromkeys(many, right))
        for method, right in (("last", 7), ("token", 4))
        for seed in (0, 1)
    ]
    text = shown(accuracy_table(wide, comparisons=compare(wide)).rich())
    # After Holm's correction for 15 languages.
    assert ["si", "70.0", "40.0"] in [line.split() for line in text.splitlines()]


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
        f"allowed: one {name} per table; next: make one table for each {name}"
    )


def test_a_classifier_stands_beside_one_protocol_not_two():
    baseline = result("tf-idf", protocol="classifier", si=1)
    accuracy_table([baseline, result(si=1), baseline])
    accuracy_table([result(si=1), baseline, result(seed=1, si=1)])
    assert "protocol" in refusal(baseline, result(si=1), result("b", protocol="generate", si=1))


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
