"""The page: one HTML file that fetches nothing, with all text escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from layerbridge.evaluation import results
from layerbridge.report import contents
from layerbridge.report.commands import RunCommands, report_command, run_commands
from layerbridge.report.plots import output as plot_output
from layerbridge.report.plots import style
from layerbridge.report.run_folders import run_folders
from layerbridge.report.tables.grid import ONE_SEED, signed
from layerbridge.report.tokens import TokenMap
from layerbridge.training.atomic_write import atomic_write
from layerbridge.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

    from layerbridge.models.inference import LayerWeights

SUFFIXES = (".html", ".htm")


def write(
    runs: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    against: str = "last",
    title: str | None = None,
    sentences: Sequence[tuple[str, LayerWeights]] = (),
    bridge: str | None = None,
) -> Path:
    """Writes the report of some runs, atomically, and returns its path.

    Args:
        runs: result files, or folders that contain some, with the recipes and weight logs of runs;
            ``NAME=PATH`` names the method there.
        output: the page; an existing file is replaced.
        against: the method to compare with; nothing is compared if no result is of it.
        title: of the page; None names the task and counts methods and languages.
        sentences: titles and weights of texts to show token by token.
        bridge: the run that read them, for the command line shown.

    Raises:
        ResultError: there are no results, they cannot be compared, or a file is damaged.
        OutputError: the page cannot be written.
    """
    output = check_path(output)
    paths = [Path(runs)] if isinstance(runs, (str, Path)) else [Path(path) for path in runs]
    values = contents.gather(
        results.find(paths), run_folders(paths), against=against, title=title, sentences=sentences
    )
    commands = run_commands(results.find_files(paths), values["folders"])
    line = report_command(
        paths,
        output,
        against=against,
        title=title,
        sentences=[text for text, _ in sentences],
        bridge=bridge,
        made=commands.made,
    )
    return atomic_write(render(values, line, commands), output)


def write_tokens(
    sentences: Sequence[tuple[str, LayerWeights]], output: str | Path, *, title: str
) -> Path:
    """Writes a page of token maps, in the browser's fonts, atomically, and returns its path.

    Args:
        sentences: titles of texts and their weights, as ``bridge.layer_weights`` returns them.
        output: the page; an existing file is replaced.
        title: of the page.

    Raises:
        OutputError: the page cannot be written.
    """
    output = check_path(output)
    maps = [TokenMap.of(text, weights) for text, weights in sentences]
    return atomic_write(_render("tokens.html", token_maps=maps, title=title), output)


def check_path(path: str | Path) -> Path:
    """Returns the path of a page.

    Raises:
        OutputError: its suffix is not one of ``SUFFIXES``, or it is a folder.
    """
    return plot_output.check_path(path, "page", SUFFIXES)


def render(values: Mapping[str, Any], command: str, commands: RunCommands | None = None) -> str:
    """Returns the page of a report: what ``contents.gather`` returned, and the command lines."""
    commands = commands or RunCommands([], frozenset(), ())
    return _render("report.html", command=command, commands=commands, **values)


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(version=__version__, **values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("layerbridge.report"),
        # The style sheet and the script are ours.
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    environment.filters |= {
        "percent": lambda proportion: f"{100 * proportion:.1f}",
        "points": _points,
        "labeled": _labeled,
        "sha256": lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode(),
        "transposed": lambda rows: list(zip(*rows, strict=True)),
    }
    environment.globals |= {
        "style": style,
        "page_colors": plot_output.PAGE_COLORS,
        "one_seed": ONE_SEED,
    }
    return environment


def _clean(value: Any) -> Any:
    """Text without what no page may hold; markup is ours."""
    return style.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _points(value: float) -> str:
    text = signed(value)
    return "0.0" if text == "+0.0" else text


def _labeled(svg: str, label: str, kind: str) -> Markup:
    """An ``<svg>`` element of ours with a label for screen readers and a class."""
    start = Markup('<svg role="img" aria-label="{}" class="{}"').format(style.clean(label), kind)
    return start + Markup(svg.removeprefix("<svg"))
