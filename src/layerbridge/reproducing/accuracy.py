"""Tables of accuracies: all methods and seeds of one task, and the comparison with the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from layerbridge.evaluation import results
from layerbridge.evaluation.comparison import Comparison, compare
from layerbridge.evaluation.results import CLASSIFIER, Result
from layerbridge.report import contents, page
from layerbridge.report.commands import report_command
from layerbridge.report.run_folders import run_folders
from layerbridge.report.tables import EffectTable, Table, accuracy_table, effect_table
from layerbridge.report.tables.accuracies import Cell
from layerbridge.reproducing import paper, rows
from layerbridge.reproducing.jobs import jobs
from layerbridge.reproducing.outcome import Outcome, write_table
from layerbridge.reproducing.paper_comparison import (
    PaperComparison,
    compare_with_paper,
    comparison_grid,
)
from layerbridge.reproducing.request import AGAINST, Request
from layerbridge.reproducing.rows import Rows
from layerbridge.reproducing.runner import run_jobs
from layerbridge.training.atomic_write import atomic_write

_PROTOCOLS = {
    "score": "Each option is scored, and the best one is the answer",
    "generate": "Greedy decoding, exact match with the label word, as in the paper",
}


def run(request: Request) -> Outcome:
    """Does what is left of the experiment and writes the table and the reports.

    Raises:
        LayerBridgeError: invalid settings, data or models; where possible before any model is
            loaded.
    """
    data = rows.read(request)
    all_jobs = jobs(request, data)
    run_jobs(all_jobs, request, data)
    files = [
        (protocol, job.path(protocol), results.read(job.path(protocol)))
        for job in all_jobs
        for protocol in job.protocols
    ]
    sections = []
    for protocol in request.preset.protocols:
        # A classifier needs no language model, and belongs to every protocol.
        found = [(path, result) for own, path, result in files if own in (CLASSIFIER, protocol)]
        comparisons = compare([result for _, result in found], AGAINST)
        table = accuracy_table([result for _, result in found], comparisons=comparisons)
        sections.append(Section(protocol, found, table, comparisons))
    known = paper.accuracies(request.experiment.name)
    first = [result for _, result in sections[0].results]
    compared = compare_with_paper(first, known) if known else []
    names = ["report.html", *(f"report-{section.protocol}.html" for section in sections[1:])]
    reports = [
        _report(request, section.results, request.folder / name)
        for name, section in zip(names, sections, strict=True)
    ]
    paragraphs = [_introduction(request, data)]
    for section in sections:
        paragraphs += section.markdown()
    if known:
        paragraphs += _with_paper(request, compared, known)
    table_file = write_table(request, *paragraphs)
    tables: list[Table | EffectTable | Any] = []
    for section in sections:
        tables += [section.table, effect_table(section.comparisons)]
    facts = {
        "task": request.experiment.task,
        "encoder": request.encoder,
        "language_model": request.language_model,
        "training_rows": len(data.data.train),
        "test_rows": data.counts,
        "tables": [section.document() for section in sections],
        "paper": [{**asdict(row), "difference": row.difference} for row in compared],
    }
    paths = dict.fromkeys(path for section in sections for path, _ in section.results)
    tables += [comparison_grid(compared)] if compared else []
    return Outcome.of(request, [*paths, table_file, *reports], tables, facts)


class Section(NamedTuple):
    """The results of one protocol.

    Attributes:
        protocol: name.
        results: with their paths.
        table: of accuracies.
        comparisons: of every method with ``last``.
    """

    protocol: str
    results: list[tuple[Path, Result]]
    table: Table
    comparisons: list[Comparison]

    def markdown(self) -> list[str]:
        """Returns the paragraphs of ``table.md``."""
        return [
            f"## Protocol {self.protocol}\n",
            f"{_PROTOCOLS[self.protocol]}. Accuracy in percent.\n",
            self.table.markdown(intervals=True),
            f"### Against {AGAINST}\n",
            effect_table(self.comparisons).markdown(),
        ]

    def document(self) -> dict[str, Any]:
        """Returns the same as JSON values."""
        table = self.table
        return {
            "protocol": self.protocol,
            "averaged": list(table.averaged),
            "methods": [
                {
                    **dict(zip(table.labels, row.labels, strict=True)),
                    "languages": {
                        code: _cell(cell)
                        for code, cell in zip(table.languages, row.cells, strict=True)
                    },
                    "average": _cell(row.average),
                }
                for row in table.rows
            ],
            f"against_{AGAINST}": [asdict(comparison) for comparison in self.comparisons],
        }


def _cell(cell: Cell | None) -> dict[str, Any] | None:
    return None if cell is None else asdict(cell)


def _report(request: Request, found: Sequence[tuple[Path, Result]], path: Path) -> Path:
    """Writes the page of one protocol, without runs of other seeds in the folder."""
    folders = run_folders(list(dict.fromkeys(file.parent.parent for file, _ in found)))
    title = f"{request.experiment.title} ({request.preset.name})"
    report = contents.gather([result for _, result in found], folders, against=AGAINST, title=title)
    command = report_command([file for file, _ in found], path, against=AGAINST, title=title)
    return atomic_write(page.render(report, command), path)


def _introduction(request: Request, data: Rows) -> str:
    counts = sorted({*data.counts.values()})
    tested = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    seeds = ", ".join(map(str, request.seeds))
    return (
        f"`{request.encoder}` and `{request.language_model}`; {len(data.data.train)} English "
        f"training rows of `{data.task.name}`, seeds {seeds}; {tested} test rows per language. "
        "What each interval covers: docs/statistics.md.\n"
    )


def _with_paper(
    request: Request, compared: Sequence[PaperComparison], known: paper.Accuracies
) -> list[str]:
    heading = "## Compared with the paper\n"
    if not compared:
        return [heading, "None of the paper's numbers for this table is known here.\n"]
    note = f"The paper's numbers: {known.source}; its others for this table are not known here."
    if request.preset.name != "paper":
        note += (
            f" Preset `{request.preset.name}` has other models, rows and settings than the paper, "
            "so that the difference does not test it."
        )
    elif known.averages:
        note += " Its averages are over all its languages, including English; so are ours here."
    return [heading, comparison_grid(compared).markdown(), f"{note}\n"]
