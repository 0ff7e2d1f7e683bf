import re

import numpy as np
import pytest

from layerbridge.errors import ResultError
from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.report.plots import (
    layer_weights_by_language,
    layer_weights_by_layer,
    layer_weights_in_training,
)
from layerbridge.report.plots.layers import by_language, by_layer, over_steps
from layerbridge.training.weight_log import WeightLog

ANSWERS = [Prediction("1", "a", "a", True)]


def result(method, seed=0, **weights):
    languages = {code: LanguageResult.of(ANSWERS, row) for code, row in weights.items()}
    return Result(method, "names", "score", "test", seed, languages)


RUNS = [
    result("token-softmax", 0, en=[0.2, 0.8], si=[0.4, 0.6]),
    result("token-softmax", 1, en=[0.6, 0.4], si=[0.0, 1.0]),
]


def texts(path):
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text("utf-8"))


def test_a_methods_runs_are_thin_lines_and_their_mean_a_bold_one():
    (axes,) = by_layer([*RUNS, result("last", en=[0, 1], si=[0, 1])]).axes
    lines = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 2][1:]
    expected = [[0.3, 0.7], [0.3, 0.7], [0.3, 0.7], [0, 1]]
    np.testing.assert_allclose(lines, expected)
    widths = [line.get_linewidth() for line in axes.lines[1:]]
    assert widths == [0.9, 0.9, 1.6, 1.6]


def test_the_mean_of_runs_by_language(tmp_path):
    axes, _ = by_language(RUNS).axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.4, 0.6], [0.2, 0.8]])
    words = texts(layer_weights_by_language(RUNS, tmp_path / "w.svg"))
    assert "token-softmax (names), mean of 2 runs" in words


def test_over_steps(tmp_path):
    log = WeightLog((0, 10, 15), ((0.1, 0.9), (0.2, 0.8), (0.5, 0.5)))
    axes, bar = over_steps(log, title="run").axes
    (mesh,) = axes.collections
    np.testing.assert_allclose(mesh.get_array(), [[0.1, 0.2, 0.5], [0.9, 0.8, 0.5]])
    # A cell lasts until the next line, whatever the distance.
    assert mesh.get_coordinates()[0, :, 0].tolist() == [0, 10, 15, 20]
    assert bar.get_ylabel() == "mean weight"
    words = texts(layer_weights_in_training(log, tmp_path / "t.svg", title="run"))
    assert {"run", "step", "encoder layer", "1", "2"} <= set(words)


def test_the_embeddings_are_layer_0():
    log = WeightLog((0, 1), ((0.1, 0.2, 0.7),) * 2, first_layer=0)
    axes, _ = over_steps(log, title="").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1", "2"]
    assert axes.get_yticks().tolist() == [1, 2, 3]


def test_a_single_line_of_a_log(tmp_path):
    log = WeightLog((3,), ((0.5, 0.5),))
    assert layer_weights_in_training(log, tmp_path / "t.png").stat().st_size > 1000


def test_many_layers_have_few_ticks():
    deep = WeightLog((0, 1), (tuple([1 / 48] * 48),) * 2)
    axes, _ = over_steps(deep, title="").axes
    assert 8 <= len(axes.get_yticks()) <= 14
    narrow, _ = over_steps(deep, title="", width=4.0).axes
    assert len(narrow.get_yticks()) <= 8


@pytest.mark.parametrize("row", [[], [0.5, float("nan")], [float("inf"), 0]])
def test_weights_that_are_no_numbers(tmp_path, row):
    for draw in (layer_weights_by_layer, layer_weights_by_language):
        with pytest.raises(ResultError) as error:
            draw([result("token-softmax", si=row)], tmp_path / "w.svg")
        assert str(error.value) == (
            "the layer weights of token-softmax in si are not all numbers; next: evaluate it again"
        )
