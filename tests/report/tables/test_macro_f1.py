import csv
import io
from collections import Counter

import pytest
from html_tree import tree

from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.report.contents import gather
from layerbridge.report.page import render
from layerbridge.report.tables import macro_f1_table, unbalanced

# Labels and answers; "none" is no label.
GIVEN = {"en": ("aaaaaabbc", "aaaaaaabn"), "sw": ("aabbcc", "aabbcc"), "ta": ("abc", "nnn")}


def naive(labels, answers):
    """The mean over labels of 2 TP / (2 TP + FP + FN)."""
    pairs = Counter(zip(labels, answers, strict=True))
    scores = []
    for label in set(labels):
        right = pairs[label, label]
        wrong = sum(n for pair, n in pairs.items() if (label in pair) and pair[0] != pair[1])
        scores.append(2 * right / (2 * right + wrong))
    return sum(scores) / len(scores)


def made(method="a", seed=0, given=GIVEN):
    languages = {
        code: LanguageResult.of(
            Prediction(f"{code}/{i}", label, answer, label == answer)
            for i, (label, answer) in enumerate(zip(*texts, strict=True))
        )
        for code, texts in given.items()
    }
    return Result(method, "mine", "score", "test", seed, languages)


def test_macro_f1_is_the_naive_one():
    for code, entry in made().languages.items():
        assert entry.macro_f1 == pytest.approx(naive(*GIVEN[code]))
    assert made().languages["en"].accuracy == pytest.approx(7 / 9)
    assert made().languages["en"].macro_f1 == pytest.approx((12 / 13 + 2 / 3 + 0) / 3)


def test_the_table_is_the_mean_over_seeds_and_other_languages():
    other = {**GIVEN, "sw": ("aabbcc", "aaaaaa")}
    table = macro_f1_table([made(), made(seed=1, given=other), made("b")])
    sw = (1 + naive(*other["sw"])) / 2
    assert table.head == ["method", "seeds", "en", "sw", "ta", "average of 2"]
    assert table.body[0][2:] == [
        f"{100 * value:.1f}" for value in (naive(*GIVEN["en"]), sw, 0, sw / 2)
    ]
    rows = list(csv.reader(io.StringIO(table.csv())))
    assert rows == [table.head, *table.body]
    assert "Macro-F1 in percent" in table.markdown()
    by_seed = macro_f1_table([made(), made(seed=1, given=other)], by_seed=True)
    assert [row[:2] for row in by_seed.body] == [["a", "0"], ["a", "1"]]


def test_what_is_unbalanced():
    assert unbalanced([made()])
    assert not unbalanced([made(given={"en": ("aabbb", "aabbb")})])


def test_the_report_has_it_where_labels_are_unbalanced(undrawn):
    page = tree(render(gather([made()]), ""))
    caption = page.id("macro-f1-table")
    (table,) = [table for table in page.all("table") if caption in table.iter()]
    cells = [cell.text for row in table.all("tr") for cell in (*row.all("th"), *row.all("td"))]
    assert cells == [
        "method",
        "en",
        "sw",
        "ta",
        "average of 2",
        "a",
        "53.0",
        "100.0",
        "0.0",
        "50.0",
    ]
    balanced = made(given={"en": ("aabb", "aabb"), "sw": ("ab", "ab")})
    assert "Macro-F1" not in tree(render(gather([balanced]), "")).text
