"""Unlabeled text of one language: lines of a text file, or rows of a table, as a bridge reads them.

Knows nothing about models.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path

from layerbridge.errors import DataError
from layerbridge.progress import say
from layerbridge.tasks import records
from layerbridge.tasks.task import render, template_columns
from layerbridge.tasks.text import check_unicode

TEXT = ".txt"
SUFFIXES = (TEXT, *records.SUFFIXES)
# Texts of a large file that are kept; a language's mean needs fewer.
MOST = 50_000
_FORMS = f"a text file of one text a line ({TEXT}), or {', '.join(records.SUFFIXES)}"


def read_texts(source: str | Path, template: str | None = None) -> list[str]:
    """Reads texts and renders them in a template, without empty ones.

    A text file has one text a line. Of a template with n columns, n lines fill one text, the first
    lines again at the end. Rows of other files have the template's columns, or else a column
    ``text`` for a template with one. Of a file larger than ``records.LARGE``, ``MOST`` texts are
    drawn.

    Args:
        source: a path, or a hub id as of a task's data.
        template: of the bridge; None for the texts alone.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or lacks a column.
    """
    columns = template_columns(template) if template else ("text",)
    template = template if template and columns else "{text}"
    columns = columns or ("text",)
    path = Path(source)
    found: Iterator[dict[str, str]]
    if path.suffix.lower() == TEXT:
        groups = _groups(_lines(path), len(columns))
        found = (dict(zip(columns, group, strict=True)) for group in groups)
        is_large = path.is_file() and path.stat().st_size > records.LARGE
    else:
        if path.exists() and path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path} has an unsupported format", allowed=_FORMS)
        data = records.read(str(source))
        if len(columns) == 1 and columns[0] not in data.columns and "text" in data.columns:
            template = template.replace(f"{{{columns[0]}}}", "{text}")
            columns = ("text",)
        for column in columns:
            if column not in data.columns:
                raise DataError(f"{data.name} has no column {column!r}", allowed=data.columns)
        found = _of_table(data, columns)
        is_large = data.position is not None
    rows, count = _drawn(found, MOST) if is_large else (list(found), 0)
    if count > len(rows):
        say(f"{source} is large: {len(rows)} of its {count} texts are kept, drawn at random")
    if not rows:
        raise DataError(f"{source} has no text", allowed=_FORMS)
    return [render(template, row) for row in rows]


def _of_table(data: records.Records, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    for where, record in data.records:
        row = {column: str(record.get(column) or "").strip() for column in columns}
        for value in row.values():
            check_unicode(value, where)
        if any(row.values()):
            yield row


def _groups(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yields lines in groups; the last one is filled with the first lines."""
    first: list[str] = []
    group: list[str] = []
    for line in lines:
        if len(first) < size:
            first.append(line)
        group.append(line)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield [*group, *first * size][:size]


def _drawn(rows: Iterable[dict[str, str]], most: int) -> tuple[list[dict[str, str]], int]:
    """Returns so many rows, in their order, and how many there are; the same every time."""
    draw = random.Random(0)
    kept: list[tuple[int, dict[str, str]]] = []
    count = 0
    for count, row in enumerate(rows, start=1):
        if len(kept) < most:
            kept.append((count, row))
        elif (place := draw.randrange(count)) < most:
            kept[place] = (count, row)
    return [row for _, row in sorted(kept, key=itemgetter(0))], count


def text_files(folder: str | Path) -> dict[str, Path]:
    """Returns the files of a folder by language: each is named by a code, such as ``si.txt``.

    Raises:
        DataError: it is not a folder, has no such files, or two of one language.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"{path} is not a folder", allowed="a folder of files such as si.txt")
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        if file.suffix.lower() not in SUFFIXES or not file.is_file():
            continue
        if file.stem in found:
            raise DataError(f"both {found[file.stem]} and {file} exist", hint="keep one of them")
        found[file.stem] = file
    if not found:
        raise DataError(f"{path} has no texts", allowed=f"files such as si{TEXT} or sw.jsonl")
    return found


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{path}, line {number} is not UTF-8 (byte {error.start + 1} of the line)",
                        hint="convert it to UTF-8, for example with iconv",
                    ) from None
                if text:
                    yield text
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
