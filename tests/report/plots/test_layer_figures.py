import numpy as np
import pytest
from svg_text import texts

from layerbridge.errors import ResultError
from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.report.plots import (
    layer_weights,
    layer_weights_by_language,
    layer_weights_by_layer,
    layer_weights_in_training,
)
from layerbridge.training.weight_log import WeightLog

ANSWERS = [Prediction("1", "a", "a", True)]


def result(method, seed=0, **weights):
    languages = {code: LanguageResult.of(ANSWERS, row) for code, row in weights.items()}
    return Result(method, "names", "score", "test", seed, languages)


BASELINE = result("tf-idf", en=None, si=None)
RUNS = [
    result("token-softmax", 0, en=[0.2, 0.8], si=[0.4, 0.6]),
    result("token-softmax", 1, en=[0.6, 0.4], si=[0.0, 1.0]),
]


def test_a_single_result_is_a_heat_map(tmp_path):
    row = [0.1, 0.2, 0.7]
    one = result("global-softmax", si=row, en=row, xx=row)
    words = texts(layer_weights([BASELINE, one], tmp_path / "w.svg"))
    assert words[:3] == ["1", "2", "3"]
    languages = [word for word in words if word in ("English", "Sinhala", "xx")]
    assert languages == ["English", "Sinhala", "xx"]
    assert {"encoder layer", "mean weight", "global-softmax (names)"} <= set(words)


def test_several_results_are_lines(tmp_path):
    words = texts(layer_weights([*RUNS, result("last", en=[0, 1])], tmp_path / "w.svg"))
    assert {"last", "token-softmax (mean of 2 runs)", "uniform weights"} <= set(words)


def test_a_methods_runs_are_thin_lines_and_their_mean_a_bold_one():
    (axes,) = layer_weights_by_layer.figure([*RUNS, result("last", en=[0, 1], si=[0, 1])]).axes
    lines = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 2][1:]
    expected = [[0.3, 0.7], [0.3, 0.7], [0.3, 0.7], [0, 1]]
    np.testing.assert_allclose(lines, expected)
    widths = [line.get_linewidth() for line in axes.lines[1:]]
    assert widths == [0.9, 0.9, 1.6, 1.6]


def test_the_mean_of_runs_by_language():
    axes, _ = layer_weights_by_language.figure(RUNS).axes
    np.testing.assert_allclose(axes.collections[0].get_array(), [[0.4, 0.6], [0.2, 0.8]])
    assert axes.get_title("left") == "token-softmax (names), mean of 2 runs"
    labels = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    assert [(y, label.get_text()) for y, label in labels] == [(0, "English"), (1, "Sinhala")]
    assert axes.yaxis_inverted()


def test_over_steps(tmp_path):
    log = WeightLog((0, 10, 15), ((0.1, 0.9), (0.2, 0.8), (0.5, 0.5)))
    axes, bar = layer_weights_in_training.figure(log, title="run").axes
    (mesh,) = axes.collections
    np.testing.assert_allclose(mesh.get_array(), [[0.1, 0.2, 0.5], [0.9, 0.8, 0.5]])
    # A cell lasts until the next line, whatever the distance.
    assert mesh.get_coordinates()[0, :, 0].tolist() == [0, 10, 15, 20]
    assert not axes.yaxis_inverted()
    assert bar.get_ylabel() == "mean weight"
    words = texts(layer_weights_in_training(log, tmp_path / "t.svg", title="run"))
    assert {"run", "step", "encoder layer", "1", "2"} <= set(words)


def test_the_embeddings_are_layer_0():
    log = WeightLog((0, 1), ((0.1, 0.2, 0.7),) * 2, first_layer=0)
    axes, _ = layer_weights_in_training.figure(log).axes
    assert axes.get_yticks().tolist() == [0, 1, 2]
    assert axes.collections[0].get_coordinates()[:, 0, 1].tolist() == [-0.5, 0.5, 1.5, 2.5]


def test_a_single_line_of_a_log(tmp_path):
    log = WeightLog((3,), ((0.5, 0.5),))
    assert layer_weights_in_training(log, tmp_path / "t.png").stat().st_size > 1000


def test_many_layers_have_few_ticks():
    deep = WeightLog((0, 1), (tuple([1 / 48] * 48),) * 2)
    axes, _ = layer_weights_in_training.figure(deep).axes
    assert 8 <= len(axes.get_yticks()) <= 14
    narrow, _ = layer_weights_in_training.figure(deep, width=4.0).axes
    assert len(narrow.get_yticks()) <= 8


def refusal(draw, results, path):
    with pytest.raises(ResultError) as error:
        draw(results, path)
    return str(error.value)


@pytest.mark.parametrize("row", [[], [0.5, float("nan")], [float("inf"), 0]])
def test_weights_that_are_not_numbers(tmp_path, row):
    for draw in (layer_weights_by_layer, layer_weights_by_language):
        assert refusal(draw, [result("token-softmax", si=row)], tmp_path / "w.svg") == (
            "the layer weights of token-softmax in si are not all finite numbers; "
            "next: evaluate it again"
        )


def test_no_weights(tmp_path):
    assert refusal(layer_weights, [BASELINE], tmp_path / "w.svg") == (
        "no result has layer weights; "
        "next: evaluate a bridge whose fusion has them, such as global-softmax"
    )


def test_encoders_of_different_depth(tmp_path):
    results = [result("a", si=[1.0]), result("b", si=[0.5, 0.5])]
    assert refusal(layer_weights, results, tmp_path / "w.svg") == (
        "the results have different layers: 1 to 1 (a) and 1 to 2 (b); "
        "allowed: results of one encoder"
    )
