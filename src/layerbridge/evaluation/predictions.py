"""Answers to a task's test rows, in batches of about one length and back in the task's order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from layerbridge.errors import NotFiniteError
from layerbridge.evaluation.results import Prediction
from layerbridge.models.length_grouping import by_length
from layerbridge.progress import say
from layerbridge.tasks.task import Row, Task
from layerbridge.training.text_counts import TextCounts, notes

# Called after every batch with its language, the rows done and all rows.
Progress = Callable[[str, int, int], None]


def rows_by_language(task: Task, languages: Iterable[str] | None) -> dict[str, list[Row]]:
    """The test rows of these languages, or of all of the task's, by the task's own codes.

    Raises:
        DataError: the task has no rows in a language.
    """
    codes = map(task.check_language, task.languages if languages is None else languages)
    return {code: task.test(code) for code in codes}


def text_counts(
    rows: Mapping[str, Sequence[Row]],
    task: Task,
    count_cut: Callable[[list[str]], int] | None = None,
    max_tokens: int | None = None,
) -> dict[str, dict[str, int]]:
    """Counts and says which texts are cut or empty.

    Args:
        rows: by language.
        task: the source of the rows.
        count_cut: texts → how many of them are cut; None for a method that cuts none.
        max_tokens: where they are cut.

    Returns:
        The ``text_counts`` of a result.
    """
    counts = {
        code: TextCounts.of(
            of_language,
            task.file_template,
            cut=count_cut([row.text for row in of_language]) if count_cut else 0,
        )
        for code, of_language in rows.items()
    }
    for line in notes(counts, max_tokens):
        say(line)
    return {code: count.changed() for code, count in counts.items() if count.changed()}


def batches_of(rows: Mapping[str, Sequence[Row]], batch_size: int) -> list[tuple[str, list[int]]]:
    """Returns batches of rows of one language and about one length: its code and their indices."""
    return [
        (code, indices)
        for code, of_language in rows.items()
        for indices in by_length([len(row.text) for row in of_language], batch_size)
    ]


def in_order(
    rows: Mapping[str, Sequence[Row]],
    batches: Sequence[tuple[str, list[int]]],
    answers: Sequence[Sequence[str]],
) -> dict[str, list[Prediction]]:
    """Returns the answers by language in the rows' order.

    Args:
        rows: by language.
        batches: of all rows, see ``batches_of``.
        answers: of each batch.
    """
    found: dict[str, dict[int, Prediction]] = {code: {} for code in rows}
    for (code, indices), texts in zip(batches, answers, strict=True):
        for index, text in zip(indices, texts, strict=True):
            row = rows[code][index]
            item = row.item if row.item is not None else f"{row.language}/{row.id}"
            correct = text == row.target
            found[code][index] = Prediction(row.id, row.target, text, correct, item)
    return {code: [found[code][index] for index in range(len(rows[code]))] for code in rows}


def predict(
    rows: Mapping[str, Sequence[Row]],
    answer: Callable[[Sequence[Row]], Sequence[str]],
    *,
    batch_size: int,
    progress: Progress | None = None,
) -> dict[str, list[Prediction]]:
    """Answers all rows, language by language.

    Args:
        rows: by language.
        answer: rows of one language → their answers.
        batch_size: rows per call.
        progress: called after every batch.

    Raises:
        NotFiniteError: names a text whose answer is made of NaN or infinities.
    """
    total, done = sum(map(len, rows.values())), 0
    batches, answers = batches_of(rows, batch_size), []
    for code, indices in batches:
        batch = [rows[code][index] for index in indices]
        try:
            answers.append(answer(batch))
        except NotFiniteError as error:
            raise error.of([row.text for row in batch]) from None
        done += len(indices)
        if progress is not None:
            progress(code, done, total)
    return in_order(rows, batches, answers)
