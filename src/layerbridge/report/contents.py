"""What a report says, before it is a page: numbers, words and drawings, gathered from results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from layerbridge.evaluation.comparison import Comparison, compare
from layerbridge.evaluation.results import CLASSIFIER, Result, check_codes
from layerbridge.report.accuracy import Line, lines
from layerbridge.report.figures import Drawing, Drawings
from layerbridge.report.notes import notes
from layerbridge.report.plots.accuracy import chance
from layerbridge.report.plots.gains import encoder_of
from layerbridge.report.run_folders import RunFolder
from layerbridge.report.settings import Settings, evaluate_commands, joined, settings
from layerbridge.report.tables import Table, accuracy_table
from layerbridge.report.tokens import TokenMap
from layerbridge.tasks.languages import corpus_of
from layerbridge.version import __version__

if TYPE_CHECKING:
    from layerbridge.models.inference import LayerWeights


@dataclass(frozen=True)
class Report:
    """Everything on the page.

    Attributes:
        title: of the page.
        results: as they were read, floors first.
        rows: test rows a language, fewest and most.
        chance: one over the number of labels.
        notes: the summary's sentences.
        table: of accuracies, a row a method.
        lines: the same, a row a language.
        by_seed: a row for every result.
        against: the method that the others are compared with.
        comparisons: with it; empty where there is nothing to compare.
        numbers: of methods, among colours and markers; floors have none.
        weights: mean weight of each layer, lowest first, by method; encoders of different depth
            apart.
        pictures: by section: ``accuracy``, ``gains``, ``weights``, ``training``.
        token_maps: of texts.
        corpus: name and source of the encoder's pretraining data, where known.
        settings: of each method.
        folders: the runs' own.
        commands: that make the results again.
        versions: of packages; where results differ, with commas.
        created: the results' first date and their last.
        made: when, ISO 8601, UTC.
        version: of this library.
    """

    title: str
    results: tuple[Result, ...]
    rows: tuple[int, int]
    chance: float
    notes: tuple[str, ...]
    table: Table
    lines: tuple[Line, ...]
    by_seed: Table
    against: str
    comparisons: tuple[Comparison, ...]
    numbers: dict[str, int]
    weights: tuple[dict[str, tuple[float, ...]], ...]
    pictures: dict[str, list[Drawing]]
    token_maps: tuple[TokenMap, ...]
    corpus: tuple[str, str] | None
    settings: tuple[Settings, ...]
    folders: tuple[RunFolder, ...]
    commands: tuple[str, ...]
    versions: dict[str, str]
    created: tuple[str, str]
    made: str
    version: str = __version__


def gather(
    results: Sequence[Result],
    folders: Sequence[RunFolder] = (),
    *,
    against: str = "last",
    title: str | None = None,
    sentences: Sequence[tuple[str, LayerWeights]] = (),
    now: datetime | None = None,
) -> Report:
    """Count, compare and draw.

    Args:
        results: of one task, split and protocol, on the same rows.
        folders: the runs' own.
        against: the method that the others are compared with.
        title: of the page; None says what was evaluated.
        sentences: titles and weights of texts to show token by token.
        now: when the report is made; None looks at the clock.

    Raises:
        ResultError: there are no results, they cannot be compared, or a language code is no text.
    """
    for result in results:
        check_codes(result)
    results = in_order(results, against)
    methods = {result.method for result in results}
    found = compare(results, against) if against in methods and len(methods) > 1 else []
    table = accuracy_table(results, comparisons=found)
    drawings = Drawings(results, found, against)
    weights = drawings.mean_weights()
    sizes = [entry.n for result in results for entry in result.languages.values()]
    created = sorted(result.created for result in results)
    corpus = corpus_of(encoder_of(results))
    return Report(
        title=title or _title(table, results[0].task),
        results=tuple(results),
        rows=(min(sizes), max(sizes)),
        chance=chance(results),
        notes=notes(table, found, results, weights),
        table=table,
        lines=lines(table),
        by_seed=accuracy_table(results, by_seed=True),
        against=against,
        comparisons=tuple(found),
        numbers=drawings.marked(),
        weights=tuple(weights),
        pictures={
            "accuracy": drawings.accuracy(),
            "gains": drawings.gains(),
            "weights": drawings.weights(),
            "training": drawings.training(folders),
        },
        token_maps=tuple(TokenMap.of(text, weights) for text, weights in sentences),
        corpus=(corpus.name, corpus.source) if corpus else None,
        settings=settings(results),
        folders=tuple(folders),
        commands=evaluate_commands(results, folders),
        versions=joined([result.versions for result in results]),
        created=(created[0], created[-1]),
        made=(now or datetime.now(UTC)).isoformat(timespec="minutes"),
    )


def in_order(results: Sequence[Result], against: str) -> list[Result]:
    """Floors, then what else is no bridge, then what is compared with, then the rest."""

    def place(result: Result) -> tuple[bool, bool, bool]:
        bridge = "bridge" in result.settings
        return result.protocol != CLASSIFIER, bridge, bridge and result.method != against

    return sorted(results, key=place)


def _title(table: Table, task: str) -> str:
    methods, languages = len({row.labels[0] for row in table.rows}), len(table.languages)
    return (
        f"{task}: {methods} method{'s' * (methods > 1)} "
        f"in {languages} language{'s' * (languages > 1)}"
    )
