"""Tables of accuracies: all methods and seeds of one task, and the comparison with the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from layerbridge.evaluation import results
from layerbridge.evaluation.comparison import Comparison, compare
from layerbridge.evaluation.results import CLASSIFIER, Result, ResultPath
from layerbridge.report import contents, page
from layerbridge.report.commands import report_command, run_commands
from layerbridge.report.run_folders import run_folders
from layerbridge.report.tables import Table, accuracy_table, effect_table
from layerbridge.reproducing import paper
from layerbridge.reproducing.jobs import Job, jobs
from layerbridge.reproducing.outcome import Outcome
from layerbridge.reproducing.paper import PaperComparison, compare_with_paper, comparison_grid
from layerbridge.reproducing.request import AGAINST, Request
from layerbridge.reproducing.rows import Rows
from layerbridge.reproducing.runner import run_jobs
from layerbridge.training.atomic_write import atomic_write

_PROTOCOLS = {
    "score": "Each option is scored, and the best one is the answer",
    "generate": "Greedy decoding, exact match with the label word, as in the paper",
}


def run(request: Request) -> Outcome:
    """Does what is left of the experiment and writes the table and the reports."""
    rows = Rows.read(request)
    all_jobs = jobs(request, rows)
    run_jobs(all_jobs, request, rows)
    sections = [_section(protocol, all_jobs) for protocol in request.preset.protocols]
    known = paper.accuracies(request.experiment.name)
    compared = compare_with_paper(list(sections[0].results.values()), known) if known else []
    names = ["report.html", *(f"report-{section.protocol}.html" for section in sections[1:])]
    reports = [
        _report(request, section.results, request.folder / name)
        for name, section in zip(names, sections, strict=True)
    ]
    paragraphs = [_introduction(request, rows)]
    tables: list[Any] = []
    for section in sections:
        paragraphs += section.markdown()
        tables += [section.table, effect_table(section.comparisons)]
    if known:
        paragraphs += _with_paper(request, compared, known)
    tables += [comparison_grid(compared)] if compared else []
    facts = {
        "task": request.experiment.task,
        "encoder": request.encoder,
        "language_model": request.language_model,
        "training_rows": len(rows.data.train),
        "test_rows": rows.counts,
        "tables": [section.document() for section in sections],
        "paper": [{**asdict(row), "difference": row.difference} for row in compared],
    }
    paths = list(dict.fromkeys(path for section in sections for path in section.results))
    return Outcome.write(request, paragraphs, tables, facts, paths=paths, reports=reports)


@dataclass(frozen=True)
class _Section:
    """The results of one protocol by path, and every method compared with ``last``."""

    protocol: str
    results: dict[Path, Result]
    table: Table
    comparisons: list[Comparison]

    def markdown(self) -> list[str]:
        return [
            f"## Protocol {self.protocol}\n",
            f"{_PROTOCOLS[self.protocol]}. Accuracy in percent.\n",
            self.table.markdown(intervals=True),
            f"### Against {AGAINST}\n",
            effect_table(self.comparisons).markdown(),
        ]

    def document(self) -> dict[str, Any]:
        table = asdict(self.table)
        return {
            "protocol": self.protocol,
            "averaged": list(table["averaged"]),
            "methods": [
                {
                    **dict(zip(table["labels"], row["labels"], strict=True)),
                    "languages": dict(zip(table["languages"], row["cells"], strict=True)),
                    "average": row["average"],
                }
                for row in table["rows"]
            ],
            f"against_{AGAINST}": [asdict(comparison) for comparison in self.comparisons],
        }


def _section(protocol: str, all_jobs: Sequence[Job]) -> _Section:
    # A classifier needs no language model, and belongs to every protocol.
    paths = [
        job.path(name)
        for job in all_jobs
        for name in job.protocols
        if name in (CLASSIFIER, protocol)
    ]
    found = {path: results.read(path) for path in paths}
    comparisons = compare(list(found.values()), AGAINST)
    table = accuracy_table(list(found.values()), comparisons=comparisons)
    return _Section(protocol, found, table, comparisons)


def _report(request: Request, found: dict[Path, Result], path: Path) -> Path:
    """Writes the page of one protocol, without runs of other seeds in the folder."""
    files = [ResultPath(file, file.parent.parent, result) for file, result in found.items()]
    folders = run_folders(list(dict.fromkeys(each.given for each in files)))
    title = f"{request.experiment.title} ({request.preset.name})"
    report = contents.gather(list(found.values()), folders, against=AGAINST, title=title)
    commands = run_commands(files, folders)
    line = report_command(list(found), path, against=AGAINST, title=title, made=commands.made)
    return atomic_write(page.render(report, line, commands), path)


def _introduction(request: Request, rows: Rows) -> str:
    counts = sorted({*rows.counts.values()})
    tested = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    seeds = ", ".join(map(str, request.seeds))
    return (
        f"`{request.encoder}` and `{request.language_model}`; {len(rows.data.train)} English "
        f"training rows of `{rows.task.name}`, seeds {seeds}; {tested} test rows per language. "
        "What each interval covers: docs/statistics.md.\n"
    )


def _with_paper(
    request: Request, compared: Sequence[PaperComparison], known: paper.Accuracies
) -> list[str]:
    note = f"The paper's numbers: {known.source}, one seed each."
    if request.preset.name != "paper":
        note += (
            f" Preset `{request.preset.name}` has other models, rows and settings than the paper, "
            "so that the difference does not test it."
        )
    elif known.averages:
        note += " Its averages are over all languages of the table; so are ours here."
    return ["## Compared with the paper\n", comparison_grid(compared).markdown(), f"{note}\n"]
