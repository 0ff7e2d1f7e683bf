"""The report: results and runs as one HTML page that needs nothing but itself.

It reads result files and what runs left beside them, and never loads a model. Every word of them is
escaped: a result file may come from anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from layerbridge.evaluation import results
from layerbridge.report import contents, page
from layerbridge.report.run_folders import run_folders
from layerbridge.report.tokens import TokenMap
from layerbridge.training.atomic_write import atomic_write

if TYPE_CHECKING:
    from layerbridge.models.inference import LayerWeights

__all__ = ["write", "write_tokens"]


def write(
    runs: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    against: str = "last",
    title: str | None = None,
    sentences: Sequence[tuple[str, LayerWeights]] = (),
    command: str | None = None,
) -> Path:
    """Write the report of some runs.

    Args:
        runs: result files, or folders that hold some; a run's recipe and its log of weights are
            found beside them.
        output: the page, all of it or nothing; a file that is there is replaced.
        against: the method that the others are compared with. Where no result is of it, nothing is
            compared.
        title: of the page; None says what was evaluated.
        sentences: titles and weights of texts to show token by token.
        command: the command line that made the report; None tells one that would.

    Returns:
        The path.

    Raises:
        ResultError: there are no results, they cannot be compared, or a file is damaged.
        OutputError: the page cannot be written.
    """
    output = page.checked(output)
    paths = [Path(runs)] if isinstance(runs, (str, Path)) else [Path(path) for path in runs]
    made = contents.gather(
        results.find(paths), run_folders(paths), against=against, title=title, sentences=sentences
    )
    if command is None:
        command = page.command(paths, output, against=against, title=title)
    return atomic_write(page.render(made, command), output)


def write_tokens(
    sentences: Sequence[tuple[str, LayerWeights]], output: str | Path, *, title: str
) -> Path:
    """Write a page of token maps alone, in the browser's fonts, which have every script's letters.

    Args:
        sentences: titles and weights of texts, as ``bridge.layer_weights`` gives them.
        output: the page, all of it or nothing.
        title: of the page.

    Returns:
        The path.

    Raises:
        OutputError: the page cannot be written.
    """
    output = page.checked(output)
    maps = [TokenMap.of(text, weights) for text, weights in sentences]
    return atomic_write(page.render_tokens(maps, title), output)
