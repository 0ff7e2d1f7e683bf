import re
from xml.etree import ElementTree

import pytest

from layerbridge.errors import OutputError
from layerbridge.report.plots import style
from layerbridge.report.plots.output import save, svg


def a_figure():
    with style.settings():
        figure, axes = style.figure(style.WIDE, 3.0)
        axes.plot([0, 1], [0, 1], color=style.COLORS[1], label="a line")
        axes.plot([0, 1], [1, 0], color=style.GREY, clip_on=True)
        axes.imshow([[0, 1]], extent=(0, 1, 0, 1), aspect="auto")
        axes.set_title("<title> & $x_1$")
        style.legend(axes)
    return figure


def test_an_element_for_a_page():
    text = svg(a_figure(), "one")
    root = ElementTree.fromstring(text)
    assert root.tag == "svg"
    assert not {"style", "metadata", "script"} & {element.tag for element in root.iter()}
    assert "xmlns" not in text
    assert "http" not in text
    words = [element.text for element in root.iter("text")]
    assert "<title> & $x_1$" in words


def test_ids_are_unique_in_a_page():
    ids = []
    for name in ("one", "two"):
        root = ElementTree.fromstring(svg(a_figure(), name))
        own = [element.get("id") for element in root.iter() if element.get("id")]
        text = ElementTree.tostring(root, encoding="unicode")
        used = re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text)
        assert used
        assert {a or b for a, b in used} == set(own)
        ids += own
    assert len(ids) == len(set(ids))


def test_a_page_may_be_dark():
    text = svg(a_figure(), "one")
    assert "var(--ink)" in text
    assert "var(--grey)" in text
    for hexadecimal in (style.INK, style.GREY, style.PAPER):
        assert hexadecimal.lower() not in text
    assert style.COLORS[1].lower() in text  # a method's color is the same in the dark


def test_a_figure_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as error:
        save(a_figure(), tmp_path / "file" / "a.png")
    assert str(error.value).endswith("; next: choose another folder")
