"""The docs site: `make docs` builds it strictly, a broken reference is an error."""

from __future__ import annotations

import os
import re
import sys
from importlib import metadata
from pathlib import Path

from pygments.lexers import TextLexer
from typer.cli import get_docs_for_click
from typer.main import get_command

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "src"))

project = "layerbridge"
author = "The layerbridge developers"
release = metadata.version("layerbridge")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "layerbridge"
html_show_sourcelink = False
templates_path: list[str] = []

myst_enable_extensions = ["dollarmath"]
# Links to headings of a page, as GitHub has them.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_use_rtype = False
napoleon_use_ivar = True

# Files and folders of the repository that pages link to are not part of the site.
_OUTSIDE = re.compile(r"\[([^\]\[]+)\]\((?:\.\./)+(?!images/)([^)#]*)(?:#[^)]*)?\)")


def _outside_links(app: object, name: str, source: list[str]) -> None:
    def as_text(match: re.Match[str]) -> str:
        inside = (HERE / name).parent / match[0].rsplit("(", 1)[1].rstrip(")").split("#")[0]
        if inside.resolve().is_relative_to(HERE) and inside.exists():
            return match[0]
        return f"{match[1]} (`{match[2]}`)"

    source[0] = _OUTSIDE.sub(as_text, source[0])


def _write_cli(app: object) -> None:
    """Writes the page of the command line from the command line itself."""
    from layerbridge.cli.app import app as cli

    # The width and the colors of a terminal are not those of a page.
    os.environ["TERMINAL_WIDTH"] = "100"
    command = get_command(cli)
    context = command.make_context("layerbridge", [], resilient_parsing=True)
    text = get_docs_for_click(obj=command, ctx=context, name="layerbridge")
    page = HERE / "cli.md"
    if not page.is_file() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def setup(app: object) -> None:
    """Connects what happens before pages are read, and names a lexer."""
    app.add_lexer("csv", TextLexer)  # type: ignore[attr-defined]
    app.connect("builder-inited", _write_cli)  # type: ignore[attr-defined]
    app.connect("source-read", _outside_links)  # type: ignore[attr-defined]
