import pytest

from layerbridge.report.plots import style


def test_labels():
    assert style.label("a\x00b\n c\ud800") == "a\ufffdb c\ufffd"
    assert style.label("x" * 61) == "x" * 59 + "…"
    # matplotlib would leave it out of the legend.
    assert style.label("_hidden") == "\u200b_hidden"
    with style.settings():
        figure, axes = style.figure(style.WIDE, 3.0)
        axes.plot([0], [0], label=style.label("_hidden"))
        style.legend(axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["\u200b_hidden"]


@pytest.mark.parametrize(("width", "columns"), [(style.WIDE, 3), (style.NARROW, 1)])
def test_a_legend_fits(width, columns):
    with style.settings():
        figure, axes = style.figure(width, 3.0)
        for number in range(3):
            axes.plot([0], [0], label=f"a method of length {number}")
        style.legend(axes)
    (legend,) = figure.legends
    assert legend._ncols == columns
    figure.draw_without_rendering()
    assert legend.get_window_extent().width <= figure.bbox.width
