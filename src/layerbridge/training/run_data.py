"""The rows of a run: of a task or of a user's own files, and what was left out of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from layerbridge import tasks
from layerbridge.progress import say
from layerbridge.tasks import Row
from layerbridge.tasks.files import read_rows
from layerbridge.tasks.hub import dataset_of
from layerbridge.tasks.sourced import SourcedTask, first_of_each, held_out
from layerbridge.tasks.stored_rows import loaded
from layerbridge.training.recipe import Recipe

# The option of a task that takes the first rows of each label in the order of its file.
PER_LABEL = "train_per_label"
# Targets are taken for labels if they are no more, no longer, and repeat as often on average.
MOST_LABELS, LONGEST_LABEL, ROWS_PER_LABEL = 100, 60, 4
# A tenth of fewer rows could not tell anything.
FEWEST_TO_SPLIT = 40
# More labels are not all printed.
FEW = 12


@dataclasses.dataclass(frozen=True)
class RunData:
    """What a run trains on.

    Attributes:
        train: English training rows: a list, or of a large source ``StoredRows``.
        validation: English rows for the validation loss; may be empty.
        options: the label words of a classification task.
        template: the prompt of the encoder's texts.
        name: of the task or the data.
        dropped: by split, how many rows were left out because evaluation rows have their texts.
        limit: how ``max_rows`` chose the training rows, in words; None if it left out none.
        columns: the template with the columns of the rows' fields.
        inferred: whether the options are the targets that the rows have.
        held_out: how many of the training rows became validation rows; 0 if there were too few
            to divide, None if that was not asked for.
        dataset: id on the hub of the data set with the training rows, or None.
    """

    train: Sequence[Row]
    validation: Sequence[Row]
    options: list[str] | None
    template: str | None
    name: str
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    limit: str | None = None
    columns: str | None = None
    inferred: bool = False
    held_out: int | None = None
    dataset: str | None = None

    @classmethod
    def of(cls, task: tasks.Task, max_rows: int | None = None) -> RunData:
        """Reads the rows of a task.

        Raises:
            DataError: they cannot be read.
        """
        rows, limit = limited(task.train(), max_rows, labeled=True)
        return cls(
            rows,
            task.validation(),
            list(task.options),
            task.template,
            task.name,
            task.dropped(),
            limit,
            task.file_template,
            dataset=_dataset(task.source("train") if isinstance(task, SourcedTask) else None),
        )

    def report(self) -> None:
        """Says what was left out, and if there is nothing to tell apart."""
        if self.dropped:
            counts = ", ".join(f"{number} of {split}" for split, number in self.dropped.items())
            say(
                f"rows left out: {counts}; their texts are also in the English validation or test "
                "rows"
            )
        if self.limit is not None:
            say(f"rows left out: {self.limit}")
        if self.inferred:
            options = self.options or []
            names = ", ".join(options[:FEW]) + (", …" if len(options) > FEW else "")
            say(f"{len(options)} labels: {names} (--free-text if answers are no labels)")
        if self.held_out == 0:
            say(f"no rows are held out for validation: {len(self.train)} are too few")
        elif self.held_out is not None:
            say(f"{self.held_out} rows are held out for validation")
        label = self.train[0].target if len(self.train) > 1 else None
        if label is not None and all(row.target == label for row in self.train):
            say(f"note: all {len(self.train)} training rows have one label, {label!r}")


def read_data(recipe: Recipe) -> RunData:
    """Reads the rows that a recipe names.

    Raises:
        DataError: they cannot be read.
    """
    if recipe.task is not None:
        return _of_task(recipe.task, recipe.task_options, recipe.max_rows)
    assert recipe.data is not None
    return data_of(recipe, read_rows(recipe.data, **columns_of(recipe), on_disk=True))


def columns_of(recipe: Recipe) -> dict[str, Any]:
    """Returns what ``read_rows`` is told of the columns of a recipe's data."""
    return {name: getattr(recipe, name) for name in ("text", "target", "template", "options")}


def data_of(recipe: Recipe, rows: Sequence[Row]) -> RunData:
    """Returns what a run trains on, of the rows of its ``data``.

    Raises:
        DataError: its validation data cannot be read.
    """
    assert recipe.data is not None
    options, inferred = recipe.options, False
    if options is None and not recipe.free_text:
        options = inferred_options(rows)
        inferred = options is not None
    train, limit = limited(rows, recipe.max_rows, labeled=options is not None)
    validation: Sequence[Row] = []
    held = None
    if recipe.validation_data is not None:
        columns = {**columns_of(recipe), "options": options}
        validation = read_rows(recipe.validation_data, **columns, on_disk=True)
    elif recipe.validation_share != 0:
        if len(train) >= FEWEST_TO_SPLIT:
            train, held_rows = held_out(train, recipe.validation_share)
            validation = loaded(held_rows)
        held = len(validation)
    return RunData(
        train,
        validation,
        options,
        recipe.template,
        recipe.data,
        limit=limit,
        columns=recipe.template or f"{{{recipe.text or 'text'}}}",
        inferred=inferred,
        held_out=held,
        dataset=_dataset(recipe.data),
    )


def _dataset(source: str | None) -> str | None:
    found = dataset_of(source)
    return None if found is None else found[0]


def inferred_options(rows: Sequence[Row]) -> list[str] | None:
    """Returns the targets as label words, in alphabetical order; None if they are free text.

    Labels are few and short, and repeat.
    """
    labels: set[str] = set()
    for row in rows:
        labels.add(row.target)
        if len(labels) > MOST_LABELS or len(row.target) > LONGEST_LABEL:
            return None
    return sorted(labels) if ROWS_PER_LABEL * len(labels) <= len(rows) else None


def _of_task(name: str, options: Mapping[str, Any], max_rows: int | None) -> RunData:
    task = tasks.get(name, **options)
    if max_rows is None or PER_LABEL in options or PER_LABEL not in tasks.option_names(name):
        return RunData.of(task, max_rows)
    counts = Counter(row.target for row in task.train())
    share = _share(list(counts.values()), max_rows)
    if counts.total() <= max_rows or not share:
        return RunData.of(task, max_rows)
    # By the task, which knows the order of the file: it shuffles its rows.
    data = RunData.of(tasks.get(name, **options, **{PER_LABEL: share}))
    left_out = counts.total() - len(data.train)
    return dataclasses.replace(data, limit=_limit(left_out, counts.total(), share))


def limited(
    rows: Sequence[Row], max_rows: int | None, *, labeled: bool
) -> tuple[Sequence[Row], str | None]:
    """Returns at most ``max_rows`` rows, and in words how they were chosen; None if all were.

    Files are often sorted by label, so that their first rows have few labels. As in the paper, the
    first rows of each label are taken, in equal shares; a label with fewer gives all it has.

    Args:
        rows: in the order of the file.
        max_rows: None for all.
        labeled: whether targets are known to be labels; else they are if they repeat.
    """
    if max_rows is None or len(rows) <= max_rows:
        return rows, None
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row.target] += 1
        if len(counts) > max_rows:  # there is no row for each, however many more there are
            break
    share = _share(list(counts.values()), max_rows)
    if not share or not (labeled or 2 * len(counts) <= len(rows)):
        taken = loaded(rows[:max_rows])
        return taken, f"{len(rows) - len(taken)} of {len(rows)}; the first {max_rows} are kept"
    taken = loaded(first_of_each(rows, share))
    return taken, _limit(len(rows) - len(taken), len(rows), share)


def _limit(left_out: int, rows: int, share: int) -> str:
    return f"{left_out} of {rows}; the first {share} of each label are kept"


def _share(counts: Sequence[int], most: int) -> int:
    """Returns the largest number of which each label can give as many, or all, within ``most``."""
    left = most
    for place, count in enumerate(sorted(counts)):
        share = left // (len(counts) - place)
        if count > share:
            return share
        left -= count
    return left
