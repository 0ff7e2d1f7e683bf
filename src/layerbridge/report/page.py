"""The page: what a report says, as HTML. One file, nothing fetched, every word escaped."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from layerbridge.errors import OutputError
from layerbridge.report.plots.output import PAGE_COLOURS
from layerbridge.report.plots.style import clean, colour, marker
from layerbridge.report.settings import quoted
from layerbridge.report.tokens import TokenMap
from layerbridge.report.words import interval, percent, points, probability
from layerbridge.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

    from layerbridge.report.contents import Report

SUFFIXES = (".html", ".htm")

# matplotlib's markers as paths in a box of 16.
_SHAPES = {
    "o": "M8 3a5 5 0 1 0 .01 0z",
    "s": "M3.5 3.5h9v9h-9z",
    "D": "M8 2l6 6-6 6-6-6z",
    "^": "M8 2.5l5.5 10h-11z",
    "v": "M8 13.5l5.5-10h-11z",
    "P": "M6 2.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5v-4h3.5z",
    "X": "M4.5 2.5L8 5.5l3.5-3 2 2L10.5 8l3 3.5-2 2L8 10.5l-3.5 3-2-2L5.5 8l-3-3.5z",
}


def checked(path: str | Path) -> Path:
    """The path of a page.

    Raises:
        OutputError: it has another ending than a page's, or is a folder.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"a page cannot be written to {path}", allowed=", ".join(SUFFIXES))
    if path.is_dir():
        raise OutputError(f"{str(path)!r} is a folder", allowed="a file")
    return path


def render(report: Report, command: str) -> str:
    """The page of a report."""
    return _page("report.html", report=report, command=command, title=report.title)


def render_tokens(maps: Sequence[TokenMap], title: str) -> str:
    """A page of token maps alone."""
    return _page("tokens.html", maps=maps, title=title, version=__version__)


def command(
    runs: Sequence[Path],
    output: Path,
    *,
    against: str = "last",
    title: str | None = None,
    sentences: Sequence[str] = (),
    bridge: str | None = None,
) -> str:
    """The command line that makes a report like this one."""
    words = [quoted(run) for run in runs] + ["-o", quoted(output)]
    words += ["--against", quoted(against)] if against != "last" else []
    words += ["--title", shlex.quote(title)] if title is not None else []
    words += [f"--sentence {shlex.quote(text)}" for text in sentences]
    words += ["--bridge", quoted(bridge)] if bridge is not None else []
    return " ".join(["layerbridge report", *words])


def _page(template: str, **values: Any) -> str:
    script = _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(style=_file("page.css"), script=script, script_digest=digest, **values)
    )


def _file(name: str) -> str:
    return resources.files("layerbridge.report").joinpath("templates", name).read_text("utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("layerbridge.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_written,
    )
    filters: dict[str, Any] = {
        "percent": percent,
        "points": points,
        "probability": probability,
        "transposed": _transposed,
        # What is drawn here, or lies beside this file, is no stranger's.
        "trusted": Markup,
        "mark": _mark,
    }
    environment.filters.update(filters)
    environment.globals["interval"] = interval
    return environment


def _written(value: Any) -> Any:
    """Text without what no page may hold; markup is ours."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _transposed(rows: Iterable[Sequence[float]]) -> list[tuple[float, ...]]:
    return list(zip(*rows, strict=True))


def _mark(number: int) -> Markup:
    """A method's colour and marker, as the pictures have them."""
    variable = PAGE_COLOURS.get(colour(number))
    fill = f"var({variable})" if variable else colour(number)
    return Markup(
        '<svg class="mark" viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">'
        f'<path d="{_SHAPES[marker(number)]}" style="fill: {fill}"></path></svg>'
    )
