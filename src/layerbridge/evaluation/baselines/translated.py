"""A task in English: its test rows through a translator.

Translated are the columns that the task's template names; the template's own words are English
already and stand around the translations again. A row whose text was not made of its columns has
the whole text translated. It knows tasks and rows, not who answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from layerbridge.evaluation.evaluator import Progress
from layerbridge.evaluation.translation import Translator
from layerbridge.tasks import Row, Task
from layerbridge.tasks.task import render, template_columns


class Translated(Task):
    """A task with other test rows.

    Args:
        task: everything else is its.
        rows: by language.
    """

    def __init__(self, task: Task, rows: Mapping[str, list[Row]]) -> None:
        self.task = task
        self.rows = rows
        self.name, self.description, self.licence = task.name, task.description, task.licence
        self.options, self.languages, self.template = task.options, task.languages, task.template

    def version(self) -> str:
        """The task's own."""
        return self.task.version()

    def _train(self) -> list[Row]:
        return self.task.train()

    def _validation(self) -> list[Row]:
        return self.task.validation()

    def _test(self, language: str) -> list[Row]:
        return self.rows[language]


def in_english(
    translator: Translator,
    task: Task,
    languages: Iterable[str],
    progress: Progress | None = None,
) -> Translated:
    """The task with its test rows in English; rows that are English stay as they are.

    Args:
        translator: remembers: the second time it costs nothing.
        task: any.
        languages: codes.
        progress: told the language, the texts translated and those in all, after every batch.

    Raises:
        BackboneError: the translator cannot be loaded.
        DataError: the task has no rows in a language, or the translator does not have it.
        OutputError: translations cannot be kept.
    """
    rows = {code: task.test(code) for code in languages}
    foreign = [code for code in rows if code != "en"]
    translator.check(foreign)
    texts = {
        code: [text for row in rows[code] for text in _texts(row, task.file_template)]
        for code in foreign
    }
    counts = {code: len({text for text in texts[code] if text.strip()}) for code in foreign}
    total, before = sum(counts.values()), 0
    for code in foreign:

        def tell(done: int, _: int, code: str = code, before: int = before) -> None:
            if progress is not None:
                progress(code, before + done, total)

        english = iter(translator.into_english(texts[code], code, tell))
        rows[code] = [_with(row, task.file_template, english) for row in rows[code]]
        before += counts[code]
    return Translated(task, rows)


def _columns(row: Row, template: str) -> tuple[str, ...]:
    """The columns that the row's text was made of; none where it was made in another way."""
    columns = template_columns(template)
    there = all(column in row.fields for column in columns)
    return columns if there and render(template, row.fields) == row.text else ()


def _texts(row: Row, template: str) -> list[str]:
    """What of a row is to be translated."""
    return [row.fields[column] for column in _columns(row, template)] or [row.text]


def _with(row: Row, template: str, english: Iterator[str]) -> Row:
    """The row with the next translations in the places that ``_texts`` took the texts from."""
    columns = _columns(row, template)
    if not columns:
        return replace(row, text=next(english))
    fields = {**row.fields, **{column: next(english) for column in columns}}
    return replace(row, text=render(template, fields), fields=fields)
