"""A task in English: its test rows through a translator.

The columns that the task's template names are translated; its own words are English already. A row
whose text was not rendered from its columns is translated as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from layerbridge.evaluation.predictions import Progress, rows_by_language
from layerbridge.evaluation.translation import Translator
from layerbridge.tasks.task import Row, Task, render, template_columns


class Translated(Task):
    """A task with other test rows.

    Args:
        task: the source of everything else.
        rows: by language.
    """

    def __init__(self, task: Task, rows: Mapping[str, list[Row]]) -> None:
        self.task = task
        self.rows = rows
        self.name, self.description, self.licence = task.name, task.description, task.licence
        self.options, self.languages, self.template = task.options, task.languages, task.template
        self.file = task.file

    def version(self) -> str:
        """The original task's."""
        return self.task.version()

    def _train(self) -> Sequence[Row]:
        return self.task.train()

    def _validation(self) -> Sequence[Row]:
        return self.task.validation()

    def _test(self, language: str) -> list[Row]:
        return self.rows[language]


def in_english(
    translator: Translator,
    task: Task,
    languages: Iterable[str],
    progress: Progress | None = None,
) -> Translated:
    """The task with its test rows in English; English rows stay as they are.

    Args:
        translator: reuses what it has translated before.
        task: any.
        languages: codes.
        progress: called with the language, the texts translated and all texts, by batch.

    Raises:
        BackboneError: the translator cannot be loaded.
        DataError: the task has no rows in a language, or the translator does not know it.
        OutputError: translations cannot be written.
    """
    rows = rows_by_language(task, languages)
    foreign = [code for code in rows if code != "en"]
    translator.check(foreign)
    template = task.file_template
    texts = {
        code: [text for row in rows[code] for text in _texts(row, template)] for code in foreign
    }
    counts = {code: len({text for text in texts[code] if text.strip()}) for code in foreign}
    total, before = sum(counts.values()), 0
    for code in foreign:

        def report(done: int, _: int, code: str = code, before: int = before) -> None:
            if progress is not None:
                progress(code, before + done, total)

        english = iter(translator.into_english(texts[code], code, report))
        rows[code] = [_translated(row, template, english) for row in rows[code]]
        before += counts[code]
    return Translated(task, rows)


def _columns(row: Row, template: str) -> tuple[str, ...]:
    """The columns that the row's text was rendered from; none if it was made in another way."""
    columns = template_columns(template)
    present = all(column in row.fields for column in columns)
    return columns if present and render(template, row.fields) == row.text else ()


def _texts(row: Row, template: str) -> list[str]:
    return [row.fields[column] for column in _columns(row, template)] or [row.text]


def _translated(row: Row, template: str, english: Iterator[str]) -> Row:
    """The row with the next translations in place of its ``_texts``."""
    columns = _columns(row, template)
    if not columns:
        return replace(row, text=next(english))
    fields = {**row.fields, **{column: next(english) for column in columns}}
    return replace(row, text=render(template, fields), fields=fields)
