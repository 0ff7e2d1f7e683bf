import re
import warnings
from types import SimpleNamespace

import pytest
import torch

from layerbridge.errors import OutputError
from layerbridge.models.inference import LayerWeights
from layerbridge.report.plots import fonts, sentence_weights
from layerbridge.report.plots.sentence import figure

WEIGHTS = LayerWeights(["<s>", "▁the", "▁තේ"], torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.0, 1.0]]))


def texts(path):
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text("utf-8"))


@pytest.fixture
def no_fonts(monkeypatch):
    monkeypatch.setattr(fonts, "_installed", lambda: iter(()))


@pytest.fixture
def sinhala(monkeypatch):
    """A font with Sinhala's letters, and one before it that is of no use."""
    has = {chr(code) for code in range(0x0D80, 0x0E00)}
    found = [("Useless", {"x"}), ("DejaVu Serif", has), ("Never Asked", has)]
    monkeypatch.setattr(fonts, "_installed", lambda: iter(found))


def test_cells_are_the_weights():
    axes, _ = figure(LayerWeights(["a", "b", "c"], WEIGHTS.weights)).axes
    torch.testing.assert_close(
        torch.tensor(axes.images[0].get_array()), WEIGHTS.weights.double(), check_dtype=False
    )
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]


def test_letters_that_no_font_has_are_code_points(tmp_path, no_fonts, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's, of a glyph that is missing
        path = sentence_weights(WEIGHTS, tmp_path / "s.png", title="▁තේ")
    assert path.read_bytes().startswith(b"\x89PNG")
    words = texts(sentence_weights(WEIGHTS, tmp_path / "s.svg"))
    assert {"&lt;s&gt;", "▁the", "U+2581 U+0DAD U+0DDA"} <= set(words)
    assert capfd.readouterr().err.splitlines()[0] == (
        "no installed font has U+0DAD and 1 other characters: code points are written instead; "
        "with --format html the browser's fonts are used"
    )


def test_a_font_that_has_the_letters_is_used(sinhala, capfd):
    assert fonts.covering(fonts.needed(WEIGHTS.tokens)) == (["DejaVu Sans", "DejaVu Serif"], set())
    axes, _ = figure(WEIGHTS).axes
    label = axes.get_yticklabels()[2]
    assert (label.get_text(), capfd.readouterr().err) == ("▁තේ", "")
    assert label.get_fontfamily() == ["DejaVu Sans", "DejaVu Serif"]


def test_latin_text_asks_for_no_other_font(monkeypatch):
    monkeypatch.setattr(fonts, "_installed", lambda: pytest.fail("fonts were read"))
    assert fonts.covering(fonts.needed(["▁the", "naïve", "Москва"])) == (["DejaVu Sans"], set())


def test_blanks_and_joiners_need_no_glyph():
    assert fonts.needed(["a b\u200d\n\u00a0"]) == {"a", "b"}


def test_installed_fonts_are_tried_sans_and_upright_first():
    found = list(fonts._installed())
    assert found
    families = [family for family, _ in found]
    assert families.index("DejaVu Sans") < families.index("DejaVu Serif")
    assert all("last resort" not in family.lower() for family in families)
    assert "a" in dict(found)["DejaVu Sans"]


def test_fonts_of_placeholders_and_bitmaps_are_no_fonts(monkeypatch):
    def font(path):
        if path == "broken":
            raise RuntimeError("no font")
        codes = {ord("x"): 1}
        return SimpleNamespace(
            family_name=path,
            style_name="Regular",
            scalable=path != "Emoji",
            get_charmap=lambda: codes,
        )

    paths = ["broken", "Last Resort", "Emoji", "Noto Sans X"]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: paths)
    monkeypatch.setattr("matplotlib.font_manager.get_font", font)
    monkeypatch.setattr("matplotlib.font_manager.fontManager",
                        SimpleNamespace(ttflist=[], addfont=lambda _: None))  # fmt: skip
    assert list(fonts._installed()) == [("Noto Sans X", {"x"})]


def test_a_long_token_is_a_few_code_points():
    assert fonts.readable(["ab", "තත", "ත" * 9], {"ත"}) == [
        "ab",
        "U+0DAD U+0DAD",
        "U+0DAD U+0DAD U+0DAD U+0DAD …",
    ]


def test_another_ending(tmp_path):
    with pytest.raises(OutputError, match="a picture cannot be written to"):
        sentence_weights(WEIGHTS, tmp_path / "s.jpg")


def test_layers_are_counted_from_the_embeddings_where_these_are_mixed():
    plain, mixed = (
        figure(LayerWeights(WEIGHTS.tokens, WEIGHTS.weights, lowest)).axes[0] for lowest in (1, 0)
    )
    assert [label.get_text() for label in plain.get_xticklabels()] == ["1", "2"]
    assert [label.get_text() for label in mixed.get_xticklabels()] == ["0", "1"]
