import re
from xml.etree import ElementTree

import pytest

from layerbridge.errors import OutputError
from layerbridge.report.plots import style
from layerbridge.report.plots.output import save, svg


def a_figure(label="a line"):
    with style.settings():
        figure, axes = style.figure(style.WIDE, 3.0)
        axes.plot([0, 1], [0, 1], color=style.COLOURS[1], label=label)
        axes.plot([0, 1], [1, 0], color=style.GREY, clip_on=True)
        axes.imshow([[0, 1]], extent=(0, 1, 0, 1), aspect="auto")
        axes.set_title("<title> & $x_1$")
        style.legend(figure, axes)
    return figure


def test_an_element_for_a_page():
    text = svg(a_figure(), name="one", label='a "picture" & more', kind="wide")
    root = ElementTree.fromstring(text)
    assert root.tag == "svg"
    assert (root.get("role"), root.get("class")) == ("img", "wide")
    assert root.get("aria-label") == 'a "picture" & more'
    assert not {"style", "metadata", "script"} & {element.tag for element in root.iter()}
    assert "xmlns" not in text
    assert "http" not in text
    words = [element.text for element in root.iter("text")]
    assert "<title> & $x_1$" in words


def test_ids_are_the_figures_own():
    ids = []
    for name in ("one", "two"):
        root = ElementTree.fromstring(svg(a_figure(), name=name, label=""))
        own = [element.get("id") for element in root.iter() if element.get("id")]
        assert all(identifier.startswith(f"{name}-") for identifier in own)
        text = ElementTree.tostring(root, encoding="unicode")
        used = re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text)
        assert used
        assert {a or b for a, b in used} <= set(own)
        ids += own
    assert len(ids) == len(set(ids))


def test_a_page_may_be_dark():
    text = svg(a_figure(), name="one", label="")
    assert "var(--ink)" in text
    assert "var(--grey)" in text
    for hexadecimal in (style.INK, style.GREY, style.PAPER):
        assert hexadecimal.lower() not in text
    assert style.COLOURS[1].lower() in text  # a method's colour is the same in the dark


def test_a_label_may_hold_anything():
    text = svg(a_figure(), name="one", label="\x00\x1b\ud800<&")
    assert ElementTree.fromstring(text).get("aria-label") == "\ufffd\ufffd\ufffd<&"


def test_labels_of_a_picture():
    assert style.words("a\x00b\n c\ud800") == "a\ufffdb c\ufffd"
    assert style.words("x" * 61) == "x" * 59 + "…"
    # matplotlib would leave it out of the legend.
    assert style.words("_hidden") == "\u200b_hidden"
    root = ElementTree.fromstring(svg(a_figure(style.words("_hidden")), name="a", label=""))
    assert "\u200b_hidden" in [element.text for element in root.iter("text")]


@pytest.mark.parametrize(("width", "columns"), [(style.WIDE, 3), (style.NARROW, 1)])
def test_a_legend_fits(width, columns):
    with style.settings():
        figure, axes = style.figure(width, 3.0)
        for number in range(3):
            axes.plot([0], [0], label=f"a method of length {number}")
        style.legend(figure, axes)
    (legend,) = figure.legends
    assert legend._ncols == columns
    figure.canvas.draw()
    assert legend.get_window_extent().width <= figure.bbox.width


def test_a_picture_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as error:
        save(a_figure(), tmp_path / "file" / "a.png")
    assert str(error.value).endswith("; next: choose another folder")
