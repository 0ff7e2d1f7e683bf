"""Rows from a user's own data: JSONL, CSV, TSV, Parquet, or a data set of the Hugging Face Hub.

Turns records into rows; every error names the file and the line or row. The rows of a large source
can stay on the disk (``stored_rows``); they are the same.
"""

from __future__ import annotations

import datetime
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from layerbridge.errors import DataError
from layerbridge.progress import Meter, meter, say
from layerbridge.tasks import records
from layerbridge.tasks.labels import Labels, check_options
from layerbridge.tasks.records import Records
from layerbridge.tasks.stored_rows import Layout, StoredRows, check_room
from layerbridge.tasks.task import TEMPLATE_FORM, Row, render, template_columns
from layerbridge.tasks.text import check_unicode, same_spelling

_TARGET_COLUMNS = ("target", "label")
# What has one obvious spelling. Bytes and images have none.
_SPELLED = (str, int, float, Decimal, datetime.date, datetime.time, type(None))
# Rows in doubt whose labels are compared; of more, only the number is told.
_DOUBTS = 10_000


def read_rows(
    source: str | Path,
    *,
    text: str | None = None,
    target: str | None = None,
    template: str | None = None,
    options: Sequence[str] | None = None,
    labels: Labels | None = None,
    skip_unknown: bool | None = None,
    language: str = "en",
    on_disk: bool = False,
    first: int | None = None,
) -> Sequence[Row]:
    """Reads rows from a file or from the hub.

    Args:
        source: a path that ends in .jsonl, .csv, .tsv or .parquet (UTF-8), or a hub id: ``id``,
            ``id:config`` or ``id:config:split`` (``id::split`` for the default config), or one
            such file on the hub, ``hf://datasets/OWNER/NAME/PATH``.
        text: the column that the encoder reads; by default ``text``, unless a template is given.
        target: the column with the label word; by default ``target``, or else ``label``.
            The class numbers of a hub data set become the class names.
        template: the encoder's text with columns in braces, such as
            ``Premise: {premise} Hypothesis: {hypothesis} Label: ``; replaces ``text``.
        options: the label words; a row with another one is an error. None accepts all.
        labels: replaces ``options``: the raw labels of the data and their words.
        skip_unknown: leave rows with another label out, and say how many; None where that is no
            choice.
        language: CLDR code of the texts.
        on_disk: return ``StoredRows`` for a source of more than ``records.LARGE`` bytes; these keep
            only the fields that are used. Otherwise rows are a list.
        first: read no more than so many records.

    Returns:
        The rows in file order. Numbers become strings; a missing text becomes "".
        The id is the column ``id`` if its values are present and unique, else the row number.

    Raises:
        DataError: the source is missing, empty, damaged or of another format, or a column, label
            or template does not fit it; the encoder would read the target; a quote in a CSV or TSV
            file has swallowed rows.
    """
    columns = _text_columns(text, template)
    if labels is None and options is not None:
        check_options(options)
    data = records.read(str(source))
    if not data.records:
        raise DataError(f"{data.name} has no rows")
    if target is None:
        target = next((name for name in _TARGET_COLUMNS if name in data.columns), "target")
    _check_columns(data, columns, target, template)
    reading = _Reading(data, columns, target, template, options, labels, skip_unknown, language)
    if not on_disk or data.position is None:
        rows: Sequence[Row] = list(reading.rows(first))
    else:
        check_room(records.size(str(source)) or 0, data.name)
        layout = Layout((*columns, target), template, language)
        with meter(f"reading {data.name}") as bar:
            report = partial(_report, bar, data)
            rows = StoredRows.write(reading.rows(first), layout, report=report)
    reading.finish(rows)
    if isinstance(rows, StoredRows):
        say(f"{data.name} is large: its rows are read from the disk, not kept in memory")
        return rows
    ids = [row.fields.get("id", "") for row in rows]
    if "" in ids or len(set(ids)) < len(ids):
        return rows
    return [replace(row, id=id_) for id_, row in zip(ids, rows, strict=True)]


def _report(bar: Meter, data: Records) -> None:
    position = data.position
    assert position is not None
    bar.update(
        position.done() // position.unit,
        max(1, position.total // position.unit),
        "rows" if position.unit == 1 else "MiB",
    )


@dataclass
class _Reading:
    """Turns records into rows, and remembers what is said at the end."""

    data: Records
    columns: Sequence[str]
    target: str
    template: str | None
    options: Sequence[str] | None
    labels: Labels | None
    skip_unknown: bool | None
    language: str
    skipped: Counter[str] = field(default_factory=Counter)
    # Row (or None if it was left out) → location, number of rows in it, and the labels of these.
    doubts: list[tuple[int | None, str, int, list[str]]] = field(default_factory=list)
    in_doubt: int = 0

    @property
    def known(self) -> Sequence[str] | None:
        return self.options if self.labels is None else tuple(self.labels.words)

    def rows(self, first: int | None = None) -> Iterator[Row]:
        """Yields the rows, with their numbers as ids."""
        count = 0
        for number, (where, record) in enumerate(islice(self.data.records, first), start=1):
            fields = _fields(where, record, (*self.columns, self.target))
            label = fields[self.target]
            if not label.strip():
                raise DataError(
                    f"{where} has no label in column {self.target!r}", allowed=self.known
                )
            word = _word(label, self.options, self.labels)
            if word is None and not self.skip_unknown:
                raise DataError(
                    f"{where} has the label {label!r}",
                    allowed=self.known,
                    hint=None
                    if self.skip_unknown is None
                    else "--skip-unknown-labels leaves such rows out",
                )
            if inside := self.data.swallowed.pop(where, None):
                self.in_doubt += 1
                if len(self.doubts) < _DOUBTS:
                    within = [other[self.target] for other in inside[:-1]]
                    place = None if word is None else count
                    self.doubts.append((place, where, len(inside), within))
            if word is None:
                self.skipped[label] += 1
                continue
            count += 1
            content = fields[self.columns[0]]
            if self.template is not None:
                content = render(self.template, fields)
            yield Row(str(number), content, word, self.language, fields)

    def finish(self, rows: Sequence[Row]) -> None:
        """Says what was left out, and refuses rows that a quote has swallowed."""
        if self.skipped:
            counts = ", ".join(f"{label} {count}" for label, count in self.skipped.most_common())
            say(
                f"rows left out of {self.data.name}: {self.skipped.total()} with other labels "
                f"({counts})"
            )
            if not len(rows):
                raise DataError(
                    f"{self.data.name} has no row with a known label", allowed=self.known
                )
        if self.doubts:
            self._check_quotes(rows)

    def _check_quotes(self, rows: Sequence[Row]) -> None:
        """Refuses a record with others in it; only the label tells them from lines of a text."""
        inside = {label for *_, labels in self.doubts for label in labels}
        doubtful = {place for place, *_ in self.doubts}
        labels = set(self.known or ())
        for place, row in enumerate(rows):
            if row.fields[self.target] in inside and place not in doubtful:
                labels.add(row.fields[self.target])
        for _, where, number, within in self.doubts:
            if not labels.isdisjoint(within):
                raise DataError(
                    f"{where} begins {number} rows that are read as one, because a quote is not "
                    "closed",
                    hint=records.QUOTES,
                )
        first = self.doubts[0][1]
        say(
            f"note: {self.in_doubt} rows of {self.data.name} have line breaks in a cell and may be "
            f"several, the first at {first.rpartition(', ')[2]}; check their quotes"
        )


def _text_columns(text: str | None, template: str | None) -> tuple[str, ...]:
    if text is not None and template is not None:
        raise DataError(
            f"both a text column ({text!r}) and a template were given", allowed="one of the two"
        )
    columns = (text or "text",) if template is None else template_columns(template)
    if not columns:
        raise DataError(f"the template {template!r} names no column", allowed=TEMPLATE_FORM)
    return columns


def _check_columns(
    data: Records, columns: Sequence[str], target: str, template: str | None
) -> None:
    for column in (*columns, target):
        if column not in data.columns:
            raise DataError(
                f"{data.name} has no column {column!r}",
                allowed=data.columns,
                hint=_column_hint(data, column),
            )
    if target in columns:
        reader = "the text column" if template is None else f"in the template {template!r}"
        raise DataError(
            f"the target column {target!r} is also {reader}, so the encoder would read the answer",
            allowed=[column for column in data.columns if column != target],
        )


def _column_hint(data: Records, column: str) -> str | None:
    other = records.delimiter_in(data.columns)
    if other and data.name.lower().endswith((".csv", ".tsv")):
        return f"save the file with one separator; its header has {other} in a column's name"
    if column in ("text", "target"):  # the default
        return f"--{column} COLUMN names another one"
    return None


def _fields(where: str, record: Mapping[str, Any], used: Sequence[str]) -> dict[str, str]:
    """Returns a record's columns as strings, without unused ones that are binary data."""
    for column in used:
        if column not in record:
            raise DataError(f"{where} has no column {column!r}", allowed=record)
        if not isinstance(record[column], _SPELLED):
            raise DataError(
                f"{where} has {records.kind(record[column])} in column {column!r}",
                allowed="text or a number",
            )
    fields = {
        column: _string(value)
        for column, value in record.items()
        if isinstance(value, (*_SPELLED, list, dict))
    }
    for column in (*used, "id"):
        check_unicode(fields.get(column, ""), f"{where}, column {column!r},")
    return fields


def _word(label: str, options: Sequence[str] | None, labels: Labels | None) -> str | None:
    """Returns the label word of a raw label; None if it is not among the known ones."""
    if labels is not None:
        return labels.word(label)
    if options is None or label in options:
        return label
    return next((word for word in options if same_spelling(word) == same_spelling(label)), None)


def _string(value: object) -> str:
    # Data frames write a missing value as NaN.
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
