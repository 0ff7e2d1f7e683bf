"""Output of the verbs that evaluate: a result file, and its table or its JSON on stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from layerbridge.progress import say

if TYPE_CHECKING:
    from layerbridge.evaluation.results import Result


def write_result(result: Result, path: Path, *, as_json: bool) -> None:
    """Writes a result, reports the path on stderr, and prints the result.

    Args:
        result: of the verb.
        path: of its file.
        as_json: print the content of the file instead of a table.

    Raises:
        OutputError: the file cannot be written.
    """
    from layerbridge.report.tables import accuracy_table

    path = result.write(path)
    say(f"wrote {path}")
    if as_json:
        print(path.read_text(encoding="utf-8"), end="")
    else:
        print(accuracy_table([result]).markdown(intervals=True), end="")
