"""Tables on a terminal, at every width."""

import io
import random
from functools import cache

import pytest
from rich.console import Console

from layerbridge.evaluation.comparison import compare
from layerbridge.report.tables import accuracy_table, effect_table, macro_f1_table
from layerbridge.report.tables.grid import Grid
from made_results import result

METHODS = ("tf-idf", "zero-shot LM", "last", "global-softmax", "token-softmax, start=uniform")
LANGUAGES = ("en", "si", "ta", "sw", "sin_Sinh", "de")


def shown(table, width):
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue().splitlines()


@cache
def made():
    return list(_made())


def _made():
    found = [
        result(method, seed, **dict.fromkeys(LANGUAGES, f"{10**place + seed:010b}"[:10]))
        for place, method in enumerate(METHODS)
        for seed in (0, 1)
    ]
    yield accuracy_table(found).rich()
    yield accuracy_table(found, by_seed=True).rich()
    yield accuracy_table(found, comparisons=compare(found)).rich(intervals=True)
    yield effect_table(compare(found)).rich()
    yield macro_f1_table(found).rich()
    draw = random.Random(0)
    words = [" ".join("x" * draw.randint(1, 12) for _ in range(n % 3 + 1)) for n in range(12)]
    yield Grid(words, [[f"{n}.5 (1–2)" for n in range(12)], words[::-1]], 1, "L").rich()
    yield Grid(words, [words], 3, title="a title").rich()


@pytest.mark.parametrize("width", [44, 60, 80, 100, 130, 250])
def test_no_word_is_broken_and_no_cell_is_lost(width):
    for table in made():
        lines = shown(table, width)
        assert max(map(len, lines)) <= width
        words = " ".join(lines).split()
        for cell in (*table.grid.head, *(cell for row in table.grid.body for cell in row)):
            assert set(cell.split()) <= set(words), cell
        # A number stays with its interval.
        numbers = [row[column] for row in table.grid.body for column in range(table.grid.left, 3)]
        for number in numbers:
            assert any(number in line for line in lines)


def test_columns_that_do_not_fit_are_below():
    table = accuracy_table([result(method, si="1100", ta="1000") for method in METHODS]).rich()
    wide, narrow = shown(table, 120), shown(table, 44)
    assert sum(line.split()[:1] == ["si"] for line in wide) == 1
    assert sum(line.split()[:1] == ["si"] for line in narrow) >= 2
    (row,) = (line.split() for line in wide if line.split()[:1] == ["si"])
    assert row == ["si", *["50.0"] * len(METHODS)]


def test_one_word_that_is_wider_than_the_terminal():
    path = "/a/very/long/path" * 8
    text = "".join(line.strip() for line in shown(Grid(["run"], [[path]], 1).rich(), 50)[3:])
    assert text == path


def test_languages_are_rows_and_methods_columns():
    found = [
        result(method, seed, si="1100", en="10") for method in ("last", "b") for seed in (0, 1)
    ]
    for table in (accuracy_table(found), macro_f1_table(found), effect_table(compare(found))):
        grid = table.rich().grid
        assert {"last", "b"} & set(grid.head[1:])
        assert {"si", "en"} <= {row[0] for row in grid.body}
