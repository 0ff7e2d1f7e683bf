"""The figures that README and docs print are those of the committed result files."""

import json
import re
from pathlib import Path

import pytest

from layerbridge.evaluation import results
from layerbridge.evaluation.comparison import compare
from layerbridge.report.tables import accuracy_table
from layerbridge.report.tables.grid import signed

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def printed(path, after=""):
    """The rows of the first table after some words of a page."""
    text = (ROOT / path).read_text("utf-8")
    text = text[text.index(after) :]
    lines = text[text.index("\n|") :].lstrip("\n").split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]


def made(folder, **options):
    found = results.find(RESULTS / folder)
    lines = accuracy_table(found, **options).markdown(intervals=True).split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]


def test_the_tables_of_the_readme():
    head, _, *expected = made("demo/seed-0")
    short = printed("README.md")
    assert short[0] == ["method", "English", head[-1]]
    in_short = [[row[0], row[1].partition(" ")[0], row[-1]] for row in expected]
    assert sorted(short[2:]) == sorted(in_short)
    # Languages are rows, so that it can be read on a laptop.
    found, rule, *rows = printed("README.md", "### The demo by language")
    assert len(found) == len(rule) <= 6
    by_method = [list(column) for column in zip(found, *rows, strict=True)]
    assert by_method[0] == head
    assert sorted(by_method[1:]) == sorted(expected)


def test_the_seeds_of_the_readme():
    head, _, *rows = printed("README.md", "Other seeds")
    for seed, *averages in rows:
        found = {row[0]: row[-1] for row in made(f"demo/seed-{seed}")}
        assert averages == [found[method].partition(" ")[0] for method in head[1:]]


@pytest.mark.parametrize("folder", ["xnli", "xsid-200-steps"])
def test_the_full_tables(folder):
    plain = [
        [re.sub("[▲▼]", "", cell) for cell in row] for row in printed(RESULTS / folder / "table.md")
    ]
    assert sorted(plain) == sorted(made(folder))


def points(effect):
    return f"{signed(effect.effect)} ({signed(effect.low)} to {signed(effect.high)})"


def test_the_effects_of_one_seed_on_xnli():
    comparisons = compare(results.find(RESULTS / "xnli"))
    effects = {found.method: points(found.average_fixed) for found in comparisons}
    averages = {row[0]: (row[1].split(" ")[0], row[-1]) for row in made("xnli")}
    rows = printed("docs/results.md", "## XNLI, one seed")[2:]
    assert len(rows) == 5
    for method, english, average, effect in rows:
        assert (english, average) == averages[method]
        assert effect == effects.get(method, "")


def test_the_table_of_own_data():
    expected = made("own-data")
    found = printed("docs/results.md", "## Own data")
    assert found == expected
    averages = {row[0]: row[-1].split(" ")[0] for row in found[2:]}
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"{averages['token-softmax']} %\nwhere TF-IDF has {averages['tf-idf']}" in readme


def test_the_layers_of_an_encoder():
    file = RESULTS / "encoder-layers" / "multilingual-e5-small.json"
    report = json.loads(file.read_text("utf-8"))
    measured = {str(each["layer"]): each for each in report["layers"]}
    measured["all side by side"] = report["all_side_by_side"]
    rows = printed("docs/which-fusion.md", "# When does fusion help?")[2:]
    assert [row[0] for row in rows] == list(measured)
    for name, share, *accuracies in rows:
        found = measured[name]
        assert share == f"{found['language_share']:.2f}"
        names = ("english", "average", "average_centered")
        assert accuracies == [f"{100 * found[each]:.1f}" for each in names]
