"""What is written of a table of accuracies: ``table.md``, a report a protocol, and a document.

Knows results and the paper's numbers; nothing of how results came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from layerbridge.evaluation.comparison import Comparison, compare
from layerbridge.evaluation.results import Result
from layerbridge.report import contents, page
from layerbridge.report.commands import report_command
from layerbridge.report.run_folders import run_folders
from layerbridge.report.tables import EffectTable, Table, accuracy_table, effect_table
from layerbridge.report.tables.accuracies import Cell
from layerbridge.reproducing import paper, paper_comparison
from layerbridge.reproducing.outcome import ELSEWHERE, TABLE, Outcome, Shown, facts, heading
from layerbridge.reproducing.paper_comparison import Beside
from layerbridge.reproducing.request import AGAINST, Request
from layerbridge.reproducing.rows import Rows
from layerbridge.training.atomic_write import atomic_write

_HOW = {
    "score": "each option scored, the best one taken",
    "generate": "greedy decoding, exact match with the label word, as in the paper",
}


class Part(NamedTuple):
    """What is said of the results of one protocol."""

    protocol: str
    table: Table
    comparisons: list[Comparison]

    @property
    def effects(self) -> EffectTable:
        """The comparisons as a table."""
        return effect_table(self.comparisons)


def write(
    request: Request, rows: Rows, results: Mapping[str, Sequence[tuple[Path, Result]]]
) -> Outcome:
    """Writes everything about the results.

    Args:
        request: whose results they are.
        rows: they were tested on.
        results: with their paths, by protocol.

    Raises:
        OutputError: a file cannot be written.
    """
    parts, pages = [], []
    for protocol, found in results.items():
        made = [result for _, result in found]
        comparisons = compare(made, AGAINST)
        parts.append(Part(protocol, accuracy_table(made, comparisons=comparisons), comparisons))
        name = "report.html" if len(parts) == 1 else f"report-{protocol}.html"
        pages.append(_report(request, found, request.folder / name))
    known = paper.accuracies(request.experiment.name)
    first = next(iter(results.values()))
    compared = paper_comparison.beside([result for _, result in first], known) if known else []
    text = _text(request, rows, parts, compared, known)
    files = dict.fromkeys(path for found in results.values() for path, _ in found)
    table = atomic_write(text, request.folder / TABLE, hint=ELSEWHERE)
    paths = (*files, table, *pages)
    shown: list[Shown] = [table for part in parts for table in (part.table, part.effects)]
    shown += [paper_comparison.grid(compared)] if compared else []
    document = {
        **facts(request),
        "task": request.experiment.task,
        "encoder": request.preset.encoder,
        "language_model": request.preset.language_model,
        "training_rows": len(rows.data.train),
        "test_rows": rows.counts,
        "tables": [_document(part) for part in parts],
        "paper": [{**asdict(row), "difference": row.difference} for row in compared],
        "paths": [str(path) for path in paths],
    }
    return Outcome(paths, tuple(shown), document)


def _report(request: Request, found: Sequence[tuple[Path, Result]], path: Path) -> Path:
    """The page of one protocol; runs of other seeds and protocols in the folder stay out of it."""
    folders = run_folders(list(dict.fromkeys(file.parent.parent for file, _ in found)))
    title = f"{request.experiment.title} ({request.preset.name})"
    made = contents.gather([result for _, result in found], folders, against=AGAINST, title=title)
    command = report_command([file for file, _ in found], path, against=AGAINST, title=title)
    return atomic_write(page.render(made, command), path)


def _text(
    request: Request,
    rows: Rows,
    parts: Sequence[Part],
    compared: Sequence[Beside],
    known: paper.Accuracies | None,
) -> str:
    preset = request.preset
    counts = sorted(set(rows.counts.values()))
    tested = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    seeds = ", ".join(map(str, request.seeds))
    lines = [
        heading(request),
        f"`{preset.encoder}` and `{preset.language_model}`; {len(rows.data.train)} English rows of "
        f"`{rows.task.name}`, seeds {seeds}; {tested} test rows a language. "
        "What each interval covers: docs/statistics.md.\n",
    ]
    for part in parts:
        lines += [
            f"## Protocol {part.protocol}\n",
            f"{_HOW[part.protocol].capitalize()}. Accuracy in per cent.\n",
            part.table.markdown(intervals=True),
            f"### Against {AGAINST}\n",
            part.effects.markdown(),
        ]
    if known is not None:
        lines += _beside(request, compared, known)
    return "\n".join(lines)


def _beside(request: Request, compared: Sequence[Beside], known: paper.Accuracies) -> list[str]:
    if not compared:
        return ["## Beside the paper\n", "None of its numbers for this table is known here.\n"]
    told = f"The paper's numbers: {known.source}; its others for this table are not known here."
    if request.preset.name != "paper":
        told += (
            f" Preset `{request.preset.name}` has other models, rows and settings than the paper: "
            "the difference is no test of it."
        )
    elif known.averages:
        told += " Its averages are over all its languages, English among them; so is ours here."
    return ["## Beside the paper\n", paper_comparison.grid(compared).markdown(), f"{told}\n"]


def _document(part: Part) -> dict[str, Any]:
    table = part.table
    return {
        "protocol": part.protocol,
        "averaged": list(table.averaged),
        "methods": [
            {
                **dict(zip(table.labels, row.labels, strict=True)),
                "languages": {
                    code: _cell(cell) for code, cell in zip(table.languages, row.cells, strict=True)
                },
                "average": _cell(row.average),
            }
            for row in table.rows
        ],
        f"against_{AGAINST}": [asdict(comparison) for comparison in part.comparisons],
    }


def _cell(cell: Cell | None) -> dict[str, Any] | None:
    return None if cell is None else asdict(cell)
