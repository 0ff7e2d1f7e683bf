from types import SimpleNamespace

import pytest

from layerbridge.report.plots import fonts


def test_latin_text_needs_no_other_font(monkeypatch):
    monkeypatch.setattr(
        "matplotlib.font_manager.findSystemFonts", lambda: pytest.fail("fonts were read")
    )
    assert fonts.covering(["▁the", "naïve", "Москва"]) == (["DejaVu Sans"], set())


def test_blanks_and_joiners_need_no_glyph(monkeypatch):
    monkeypatch.setattr(fonts, "_installed", lambda: iter([("DejaVu Sans", {"a"})]))
    assert fonts.covering(["a b\u200d\n\u00a0"]) == (["DejaVu Sans"], {"b"})


def test_installed_fonts_are_tried_sans_and_upright_first():
    installed = list(fonts._installed())
    families = [family for family, _ in installed]
    assert families.index("DejaVu Sans") == 0
    assert families.index("DejaVu Sans Mono") < families.index("DejaVu Serif")
    assert all("last resort" not in family.lower() for family in families)
    assert "a" in dict(installed)["DejaVu Sans"]


def test_placeholders_bitmaps_and_broken_fonts_are_skipped(monkeypatch):
    def entry(name, size="scalable"):
        return SimpleNamespace(fname=name, name=name, style="normal", weight=400, size=size)

    def characters(path):
        if path == "broken":
            raise RuntimeError("not a font")
        return {"x"}

    def addfont(path):
        if path == "unreadable":
            raise OSError
        listed.append(entry(path))

    listed = [entry(name) for name in ("broken", "Last Resort")] + [entry("Emoji", "12")]
    monkeypatch.setattr("matplotlib.font_manager.findfont", lambda name: name)
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: ["unreadable", "New"])
    monkeypatch.setattr("matplotlib.font_manager.fontManager",
                        SimpleNamespace(ttflist=listed, addfont=addfont))  # fmt: skip
    monkeypatch.setattr(fonts, "_characters", characters)
    assert list(fonts._installed()) == [("DejaVu Sans", {"x"}), ("New", {"x"})]


def test_a_long_token_is_a_few_code_points():
    assert [fonts.readable(token, {"ත"}) for token in ("ab", "තත", "ත" * 9)] == [
        "ab",
        "U+0DAD U+0DAD",
        "U+0DAD U+0DAD U+0DAD U+0DAD …",
    ]
