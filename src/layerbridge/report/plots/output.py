"""Figures as files, and as SVG inside a page. Knows nothing about what they show."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, TypeVar
from xml.etree import ElementTree

from layerbridge.errors import OutputError
from layerbridge.report.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")
P = ParamSpec("P")

SUFFIXES = (".svg", ".png")

# Figure colors that a page replaces in dark mode, with the custom properties of its style sheet.
PAGE_COLORS = {
    style.INK: "--ink",
    style.GREY: "--grey",
    style.PALE: "--pale",
    style.BAND: "--band",
    style.PAPER: "--paper",
    style.COLORS[0]: "--first",
    style.COLORS[-1]: "--seventh",
}


class Plot(Generic[T, P]):
    """A function that draws a figure, turned into one that writes it to a file.

    It raises ``OutputError`` if the path does not end in .svg or .png, or cannot be written.
    """

    def __init__(self, draw: Callable[Concatenate[T, P], Figure]) -> None:
        self._draw = draw
        update_wrapper(self, draw)

    def __call__(self, data: T, path: str | Path, *args: P.args, **kwargs: P.kwargs) -> Path:
        """Draws the figure, writes it and returns the path."""
        path = check_path(path)
        return save(self.figure(data, *args, **kwargs), path)

    def figure(self, data: T, *args: P.args, **kwargs: P.kwargs) -> Figure:
        """Draws the figure."""
        with style.settings():
            return self._draw(data, *args, **kwargs)


def check_path(path: str | Path, kind: str = "figure", suffixes: Sequence[str] = SUFFIXES) -> Path:
    """Returns the path of a figure, or of another kind of file.

    Raises:
        OutputError: its suffix is not one of these, or it is a folder.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"cannot write a {kind} to {path}", allowed=", ".join(suffixes))
    if path.is_dir():
        raise OutputError(f"{str(path)!r} is a folder", allowed="a file")
    return path


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure, creating its folder if needed.

    Raises:
        OutputError: it cannot be written.
    """
    # Without a date, equal results make equal files.
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with style.settings():
            figure.savefig(path, metadata=metadata)
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror or error})", hint="choose another folder"
        ) from None
    return path


def svg(figure: Figure, name: str) -> str:
    """Returns a figure as an ``<svg>`` element for an HTML page.

    Text stays text, and the colors of ``PAGE_COLORS`` follow the style sheet of the page.

    Args:
        figure: its background is removed.
        name: unique in the page, so that the ids in the element are.
    """
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set_visible(False)
    buffer = io.StringIO()
    with style.settings(salt=name):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    # All figures name their groups alike; only hashes, which are salted, are referred to.
    referenced = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    root = ElementTree.fromstring(text)
    for element in list(root.iter()):
        for child in list(element):
            # A style sheet would apply to the whole page; metadata has a link in it.
            if child.tag.endswith(("}style", "}metadata")):
                element.remove(child)
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {
            key.rpartition("}")[2]: _with_page_colors(value)
            for key, value in element.attrib.items()
            if key != "id" or value in referenced
        }
    width, height = root.attrib["viewBox"].split()[2:]
    root.attrib = {
        "viewBox": f"0 0 {width} {height}",
        "style": "stroke-linejoin: round; stroke-linecap: butt",
    }
    # Text is escaped as in XML, which is fine in HTML; <g/> would not be.
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _with_page_colors(value: str) -> str:
    for color, variable in PAGE_COLORS.items():
        value = value.replace(f": {color.lower()}", f": var({variable})")
    return value
