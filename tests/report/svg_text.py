"""The text of an SVG whose text is text."""

import re


def texts(path):
    """The content of each ``<text>``, in order."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text("utf-8"))
