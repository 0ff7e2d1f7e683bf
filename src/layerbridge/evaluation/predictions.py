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
    predictions: dict[str, list[Prediction]] = {}
    for code, of_language in rows.items():
        by_index: dict[int, Prediction] = {}
        for indices in by_length([len(row.text) for row in of_language], batch_size):
            batch = [of_language[index] for index in indices]
            try:
                answers = answer(batch)
            except NotFiniteError as error:
                raise error.of([row.text for row in batch]) from None
            for index, row, text in zip(indices, batch, answers, strict=True):
                item = row.item if row.item is not None else f"{row.language}/{row.id}"
                correct = text == row.target
                by_index[index] = Prediction(row.id, row.target, text, correct, item)
            done += len(batch)
            if progress is not None:
                progress(code, done, total)
        predictions[code] = [by_index[index] for index in range(len(of_language))]
    return predictions
