"""Figures as files, and as SVG inside a page. Knows no figure's content."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from layerbridge.errors import OutputError
from layerbridge.report.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")

# Colours of a figure that change in the dark, as a style sheet calls them.
PAGE_COLOURS = {
    style.INK: "--ink",
    style.GREY: "--grey",
    style.PALE: "--pale",
    style.BAND: "--band",
    style.PAPER: "--paper",
    style.COLOURS[0]: "--first",
    style.COLOURS[-1]: "--seventh",
}


def checked(path: str | Path) -> Path:
    """The path of a picture.

    Raises:
        OutputError: it has another ending than a picture's.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"a picture cannot be written to {path}", allowed=f"{', '.join(SUFFIXES)}"
        )
    return path


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure; the folder is made if it is not there.

    Raises:
        OutputError: it cannot be written.
    """
    # Without a date in it, the same results make the same file.
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with style.settings():
            figure.savefig(path, metadata=metadata)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error})", hint="choose another folder"
        ) from None
    return path


def svg(figure: Figure, *, name: str, label: str, kind: str = "") -> str:
    """A figure as an ``<svg>`` element to put into an HTML page.

    Its text is text, its background the page's, and its greys are the custom properties of
    ``PAGE_COLOURS``, so that a page can be dark.

    Args:
        figure: to draw; its background is taken away.
        name: goes before every id in it: a page may hold several.
        label: what a screen reader says.
        kind: its class.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    written = io.StringIO()
    with style.settings():
        figure.savefig(written, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(written.getvalue())
    for parent in root.iter():
        for child in list(parent):
            # The style sheet would be the whole page's; the metadata names its maker's address.
            if child.tag.rpartition("}")[2] in ("style", "metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {
            key.rpartition("}")[2]: _in_page(value, name) for key, value in element.attrib.items()
        }
        if "id" in attributes:
            attributes["id"] = f"{name}-{attributes['id']}"
        element.attrib.clear()
        element.attrib.update(attributes)
    width, height = root.get("viewBox", "0 0 1 1").split()[2:]
    root.attrib.clear()
    root.attrib.update(
        {
            "viewBox": f"0 0 {width} {height}",
            "role": "img",
            "aria-label": style.clean(label),
            "class": kind,
            "style": "stroke-linejoin: round; stroke-linecap: butt",
        }
    )
    # As XML, text is escaped as HTML wants it too; no empty element is written as <g/>, which HTML
    # would leave open were it not inside an <svg>.
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _in_page(value: str, name: str) -> str:
    value = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", value)
    if value.startswith("#") and not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        value = f"#{name}-{value[1:]}"
    for hexadecimal, variable in PAGE_COLOURS.items():
        value = value.replace(f": {hexadecimal.lower()}", f": var({variable})")
    return value
