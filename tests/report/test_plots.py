import re
import subprocess
import sys

import pytest

from layerbridge.errors import OutputError, ResultError
from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.report.plots import accuracy_by_language, layer_weights


def result(method="last", seed=0, protocol="score", weights=None, **right):
    languages = {
        code: LanguageResult.of(
            (Prediction(f"{code}{i}", "ab"[i % 2], "x", i < count) for i in range(10)), weights
        )
        for code, count in right.items()
    }
    return Result(method, "names", protocol, "test", seed, languages)


FLOOR = result("tf-idf", protocol="classifier", en=6, si=2, zu=3)
RESULTS = [FLOOR, result(en=8, si=3, zu=7), result("token-softmax", en=9, si=6, zu=7)]


def texts(path):
    """The words of an SVG whose text is text."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text("utf-8"))


def test_accuracy_svg(tmp_path):
    words = texts(accuracy_by_language(RESULTS, tmp_path / "new" / "a.svg"))
    languages = [word for word in words if word in ("English", "Sinhala", "Zulu")]
    assert languages == ["English", "Zulu", "Sinhala"]  # English, then the better one first
    assert {"last", "token-softmax", "tf-idf", "chance"} <= set(words)
    assert "accuracy, % (names, test rows)" in words


def test_methods_come_before_what_they_are_read_against(tmp_path):
    words = texts(accuracy_by_language(RESULTS, tmp_path / "a.svg"))
    legend = [word for word in words if word in ("last", "token-softmax", "tf-idf", "chance")]
    assert legend == ["last", "token-softmax", "tf-idf", "chance"]


def test_seeds_are_one_mark(tmp_path):
    two = [result(seed=0, en=5, si=4), result(seed=1, en=6, si=7)]
    assert "last (2 seeds)" in texts(accuracy_by_language(two, tmp_path / "a.svg"))


@pytest.mark.parametrize("results", [[FLOOR], [result(si=10)], [result(en=0), FLOOR]])
def test_small_sets(tmp_path, results):
    assert accuracy_by_language(results, tmp_path / "a.svg").stat().st_size > 1000


def test_png(tmp_path):
    path = accuracy_by_language(RESULTS, tmp_path / "a.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_same_results_make_the_same_file(tmp_path):
    files = [accuracy_by_language(RESULTS, tmp_path / f"{i}.svg").read_bytes() for i in range(2)]
    assert files[0] == files[1]


def test_heat_map(tmp_path):
    one = result("global-softmax", en=8, si=3, xx=2, weights=[0.1, 0.2, 0.7])
    words = texts(layer_weights([FLOOR, one], tmp_path / "w.svg"))
    assert words[:3] == ["1", "2", "3"]
    assert [word for word in words if word in ("English", "Sinhala", "xx")] == [
        "English",
        "Sinhala",
        "xx",
    ]
    assert {"encoder layer", "mean weight", "global-softmax (names)"} <= set(words)


def test_lines(tmp_path):
    both = [
        result("global-softmax", en=8, si=3, weights=[0.1, 0.9]),
        result("token-softmax", en=8, si=3, weights=[0.5, 0.5]),
    ]
    words = texts(layer_weights(both, tmp_path / "w.svg"))
    assert {"global-softmax", "token-softmax", "all layers alike"} <= set(words)
    again = [both[0], result("global-softmax", seed=1, en=8, weights=[0.1, 0.9])]
    assert "global-softmax (mean of 2 runs)" in texts(layer_weights(again, tmp_path / "w.svg"))


def test_no_weights(tmp_path):
    with pytest.raises(ResultError) as error:
        layer_weights(RESULTS, tmp_path / "w.svg")
    assert str(error.value) == (
        "no result has layer weights; "
        "next: evaluate a bridge whose fusion has them, such as global-softmax"
    )


def test_encoders_of_different_depth(tmp_path):
    results = [result("a", si=1, weights=[1.0]), result("b", si=1, weights=[0.5, 0.5])]
    with pytest.raises(ResultError) as error:
        layer_weights(results, tmp_path / "w.svg")
    assert str(error.value) == (
        "the results have different numbers of layers: 1 (a) and 2 (b); "
        "allowed: results of one encoder"
    )


def test_endings(tmp_path):
    for draw in (accuracy_by_language, layer_weights):
        with pytest.raises(OutputError) as error:
            draw(RESULTS, tmp_path / "a.jpg")
        assert str(error.value) == (
            f"a picture cannot be written to {tmp_path}/a.jpg; allowed: .svg, .png"
        )


def test_results_that_cannot_be_compared(tmp_path):
    with pytest.raises(ResultError, match="different rows in si"):
        accuracy_by_language(
            [result(si=1), Result("b", "names", "score", "test", 0, {"si": FLOOR.languages["zu"]})],
            tmp_path / "a.svg",
        )
    with pytest.raises(ResultError, match="there are no results"):
        accuracy_by_language([], tmp_path / "a.svg")


def test_pyplot_is_left_alone(tmp_path):
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/report']; from test_plots import *; "
        "from pathlib import Path; import matplotlib; before = dict(matplotlib.rcParams); "
        f"accuracy_by_language(RESULTS, Path({str(tmp_path)!r}) / 'a.png'); "
        "assert dict(matplotlib.rcParams) == before; "
        "import matplotlib.pyplot as plt; assert plt.get_fignums() == []"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
