import matplotlib as mpl
import pytest
from svg_text import texts

from layerbridge.errors import OutputError, ResultError
from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.report.plots import accuracy_by_language


def result(method="last", seed=0, protocol="score", **right):
    languages = {
        code: LanguageResult.of(
            Prediction(f"{code}{i}", "ab"[i % 2], "x", i < count) for i in range(10)
        )
        for code, count in right.items()
    }
    return Result(method, "names", protocol, "test", seed, languages)


BASELINE = result("tf-idf", protocol="classifier", en=6, si=2, zu=3)
RESULTS = [BASELINE, result(en=8, si=3, zu=7), result("token-softmax", en=9, si=6, zu=7)]


def test_labels_and_the_order_of_languages_and_methods(tmp_path):
    words = texts(accuracy_by_language(RESULTS, tmp_path / "new" / "a.svg"))
    languages = [word for word in words if word in ("English", "Sinhala", "Zulu")]
    assert languages == ["English", "Zulu", "Sinhala"]  # English, then the better one first
    # Methods before what they are compared with.
    legend = [word for word in words if word in ("last", "token-softmax", "tf-idf", "chance")]
    assert legend == ["last", "token-softmax", "tf-idf", "chance"]
    assert "accuracy, % (names, test rows)" in words


def test_seeds_are_one_mark(tmp_path):
    two = [result(seed=0, en=5, si=4), result(seed=1, en=6, si=7)]
    assert "last (2 seeds)" in texts(accuracy_by_language(two, tmp_path / "a.svg"))


@pytest.mark.parametrize("results", [[BASELINE], [result(si=10)], [result(en=0), BASELINE]])
def test_small_sets(tmp_path, results):
    assert accuracy_by_language(results, tmp_path / "a.svg").stat().st_size > 1000


def test_equal_results_make_equal_files(tmp_path):
    files = [accuracy_by_language(RESULTS, tmp_path / f"{i}.svg").read_bytes() for i in range(2)]
    assert files[0] == files[1]


def test_another_suffix(tmp_path):
    with pytest.raises(OutputError) as error:
        accuracy_by_language(RESULTS, tmp_path / "a.jpg")
    assert str(error.value) == f"cannot write a figure to {tmp_path}/a.jpg; allowed: .svg, .png"


def test_results_that_cannot_be_compared(tmp_path):
    other = Result("b", "names", "score", "test", 0, {"si": BASELINE.languages["zu"]})
    with pytest.raises(ResultError, match="different rows in si"):
        accuracy_by_language([result(si=1), other], tmp_path / "a.svg")
    with pytest.raises(ResultError, match="there are no results"):
        accuracy_by_language([], tmp_path / "a.svg")


def test_pyplot_is_left_alone(tmp_path):
    import matplotlib.pyplot as plt

    before = dict(mpl.rcParams)
    path = accuracy_by_language(RESULTS, tmp_path / "a.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
