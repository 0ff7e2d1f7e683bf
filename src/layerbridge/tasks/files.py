"""Rows from a user's own data: JSONL, CSV, TSV, Parquet, or a data set of the Hugging Face Hub.

Turns records into rows; every error names the file and the line or row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from layerbridge.errors import DataError
from layerbridge.tasks import records
from layerbridge.tasks.labels import Labels
from layerbridge.tasks.task import Row, render, template_columns

_TARGET_COLUMNS = ("target", "label")


def read_rows(
    source: str | Path,
    *,
    text: str | None = None,
    target: str | None = None,
    template: str | None = None,
    options: Sequence[str] | None = None,
    labels: Labels | None = None,
    language: str = "en",
) -> list[Row]:
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
        language: CLDR code of the texts.

    Returns:
        The rows in file order. Numbers become strings; a missing text becomes "".
        The id is the column ``id`` if its values are present and unique, else the row number.

    Raises:
        DataError: the source is missing, empty, damaged or of another format, or a column, label
            or template does not fit it.
    """
    if text is not None and template is not None:
        raise DataError(
            f"both a text column ({text!r}) and a template were given", allowed="one of the two"
        )
    data = records.read(str(source))
    if not data.records:
        raise DataError(f"{data.name} has no rows")
    if target is None:
        target = next((name for name in _TARGET_COLUMNS if name in data.columns), "target")
    columns = (text or "text",) if template is None else template_columns(template)
    for column in (*columns, target):
        if column not in data.columns:
            raise DataError(f"{data.name} has no column {column!r}", allowed=data.columns)
    known = options if labels is None else tuple(labels.words)

    rows = []
    for number, (where, record) in enumerate(data.records, start=1):
        for column in (*columns, target):
            if column not in record:
                raise DataError(f"{where} has no column {column!r}", allowed=record)
            if isinstance(record[column], (list, dict)):
                raise DataError(
                    f"{where} has {records.kind(record[column])} in column {column!r}",
                    allowed="text or a number",
                )
        fields = {column: _string(value) for column, value in record.items()}
        label = fields[target]
        if not label.strip():
            raise DataError(f"{where} has no label in column {target!r}", allowed=known)
        word = label if labels is None else labels.word(label)
        if word is None or (options is not None and word not in options):
            raise DataError(f"{where} has the label {label!r}", allowed=known)
        content = fields[columns[0]] if template is None else render(template, fields)
        rows.append(Row(str(number), content, word, language, fields))
    ids = [row.fields.get("id", "") for row in rows]
    if "" in ids or len(set(ids)) < len(ids):
        return rows
    return [replace(row, id=id_) for id_, row in zip(ids, rows, strict=True)]


def _string(value: object) -> str:
    # Data frames write a missing value as NaN.
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
