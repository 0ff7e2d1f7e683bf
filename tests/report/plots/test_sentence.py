import warnings

import pytest
import torch
from svg_text import texts

from layerbridge.errors import OutputError
from layerbridge.models.inference import LayerWeights
from layerbridge.report.plots import fonts, sentence_weights

WEIGHTS = LayerWeights(["<s>", "▁the", "▁තේ"], torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.0, 1.0]]))
PLAIN = LayerWeights(["a", "b", "c"], WEIGHTS.weights)
LATIN = ("DejaVu Sans", set("<s>▁the"))


def test_cells_are_the_weights():
    axes, _ = sentence_weights.figure(PLAIN).axes
    torch.testing.assert_close(
        torch.tensor(axes.collections[0].get_array()), WEIGHTS.weights.double(), check_dtype=False
    )
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.yaxis_inverted()


def test_letters_that_no_font_has_are_code_points(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(fonts, "_installed", lambda: iter([("DejaVu Sans", set("<s>the"))]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's, of a missing glyph
        path = sentence_weights(WEIGHTS, tmp_path / "s.png", title="▁තේ")
    assert path.read_bytes().startswith(b"\x89PNG")
    words = texts(sentence_weights(WEIGHTS, tmp_path / "s.svg"))
    assert {"&lt;s&gt;", "U+2581 U+0074 U+0068 U+0065", "U+2581 U+0DAD U+0DDA"} <= set(words)
    assert capfd.readouterr().err.splitlines()[0] == (
        "no installed font has U+0DAD and 2 other characters: code points are written instead; "
        "--format html uses the browser's fonts"
    )


def test_a_font_that_has_the_letters_is_used(monkeypatch, capfd):
    sinhala = {chr(code) for code in range(0x0D80, 0x0E00)}
    installed = [LATIN, ("Useless", {"x"}), ("DejaVu Serif", sinhala), ("Never Read", sinhala)]
    monkeypatch.setattr(fonts, "_installed", lambda: iter(installed))
    axes, _ = sentence_weights.figure(WEIGHTS).axes
    label = axes.get_yticklabels()[2]
    assert (label.get_text(), capfd.readouterr().err) == ("▁තේ", "")
    assert label.get_fontfamily() == ["DejaVu Sans", "DejaVu Serif"]


def test_another_suffix(tmp_path):
    with pytest.raises(OutputError, match="cannot write a figure to"):
        sentence_weights(WEIGHTS, tmp_path / "s.jpg")


@pytest.mark.parametrize(("first_layer", "expected"), [(1, [1, 2]), (0, [0, 1])])
def test_layers_are_counted_from_the_embeddings_where_these_are_fused(first_layer, expected):
    weights = LayerWeights(PLAIN.tokens, PLAIN.weights, first_layer)
    axes, _ = sentence_weights.figure(weights).axes
    assert axes.get_xticks().tolist() == expected
