"""Rows from a user's own data: JSONL, CSV, TSV or Parquet, or a data set of the Hugging Face hub.

Knows how each format is read and what can be wrong with it; every complaint names the file and the
line or row. Rows are numbered from 1; the lines of a file are the file's own, header included.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerbridge.errors import DataError
from layerbridge.tasks.task import Row, render, template_columns

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]*){0,2}")
_TEXT_COLUMN = "text"
_TARGET_COLUMNS = ("target", "label")


@dataclass(frozen=True)
class _Records:
    """What a source holds: a name for messages, its columns, and (where, record) pairs."""

    name: str
    columns: tuple[str, ...]
    records: Sequence[tuple[str, dict[str, Any]]]


def read_rows(
    source: str | Path,
    *,
    text: str | None = None,
    target: str | None = None,
    template: str | None = None,
    options: Sequence[str] | None = None,
    language: str = "en",
) -> list[Row]:
    """Read rows from a file or from the hub.

    Args:
        source: a path that ends in .jsonl, .csv, .tsv or .parquet (UTF-8), or a hub id: ``id``,
            ``id:config`` or ``id:config:split`` (``id::split`` for the default config).
        text: the column that the encoder reads; ``text`` if neither this nor a template is given.
        target: the column with the label word; ``target`` or else ``label`` if not given.
            The class numbers of a hub data set become the class names.
        template: the encoder's text with columns in braces, such as
            ``Premise: {premise} Hypothesis: {hypothesis} Label: ``; instead of ``text``.
        options: the label words; a row with another one is an error. None accepts all.
        language: CLDR code of the texts.

    Returns:
        The rows in the order of the file. Numbers become strings; a missing text becomes "".
        The id is the column ``id`` where there is one and its values differ, else the row's number.

    Raises:
        DataError: the source is missing, empty, of another format or damaged, or a column, label
            or template does not fit it.
    """
    if text is not None and template is not None:
        raise DataError(
            f"both a text column ({text!r}) and a template were given", allowed="one of the two"
        )
    source = str(source)
    data = _read(source)
    if not data.records:
        raise DataError(f"{data.name} has no rows")
    if target is None:
        target = next((name for name in _TARGET_COLUMNS if name in data.columns), "target")
    inputs = (text or _TEXT_COLUMN,) if template is None else template_columns(template)
    for column in (*inputs, target):
        if column not in data.columns:
            raise DataError(f"{data.name} has no column {column!r}", allowed=data.columns)

    rows = []
    for number, (where, record) in enumerate(data.records, start=1):
        for column in (*inputs, target):
            if column not in record:
                raise DataError(f"{where} has no column {column!r}", allowed=record)
            if isinstance(record[column], (list, dict)):
                raise DataError(
                    f"{where} has {_kind(record[column])} in column {column!r}",
                    allowed="text or a number",
                )
        fields = {column: _string(value) for column, value in record.items()}
        label = fields[target]
        if not label.strip():
            raise DataError(f"{where} has no label in column {target!r}", allowed=options)
        if options is not None and label not in options:
            raise DataError(f"{where} has the label {label!r}", allowed=options)
        read = fields[inputs[0]] if template is None else render(template, fields)
        rows.append(Row(str(number), read, label, language, fields))
    return _with_ids(rows)


def _with_ids(rows: list[Row]) -> list[Row]:
    ids = [row.fields.get("id", "") for row in rows]
    if "" in ids or len(set(ids)) < len(ids):
        return rows
    return [
        Row(key, row.text, row.target, row.language, row.fields)
        for key, row in zip(ids, rows, strict=True)
    ]


def _read(source: str) -> _Records:
    path = Path(source)
    readers = {".jsonl": _jsonl, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    suffix = path.suffix.lower()
    if path.is_dir():
        raise DataError(f"{source} is a folder", allowed=f"a file ending in {', '.join(SUFFIXES)}")
    if suffix in readers:
        if not path.is_file():
            raise DataError(f"there is no file {source}", hint="check the path")
        try:
            return readers[suffix](path)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{source} is not UTF-8 (byte {error.start})", hint="save the file as UTF-8"
            ) from None
        except OSError as error:
            raise DataError(f"{source} cannot be read ({error.strerror or error})") from None
    if path.exists() or not _HUB_ID.fullmatch(source) or ("/" not in source and suffix):
        raise DataError(
            f"{source} is of no format that can be read",
            allowed=f"{', '.join(SUFFIXES)}, or a hub id such as facebook/xnli:en:validation",
        )
    return _hub(source)


def _jsonl(path: Path) -> _Records:
    records = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{where} is not JSON ({error.msg} at character {error.pos + 1})",
                    allowed="one JSON object a line",
                ) from None
            if not isinstance(record, dict):
                raise DataError(f"{where} is {_kind(record)}", allowed="one JSON object a line")
            records.append((where, record))
    return _records(str(path), records)


def _csv(path: Path) -> _Records:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    records = []
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            repeated = [name for name in header if header.count(name) > 1]
            if repeated:
                raise DataError(f"{path} has two columns {repeated[0]!r}")
            for cells in reader:
                where = f"{path}, line {reader.line_num}"
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{where} has {len(cells)} cells", allowed=f"{len(header)}, as the header"
                    )
                records.append((where, dict(zip(header, cells, strict=True))))
        except csv.Error as error:
            raise DataError(
                f"{path}, line {reader.line_num} is malformed ({error})",
                hint="quote cells that hold quotes, separators or line breaks",
            ) from None
    return _Records(str(path), tuple(header), records)


def _parquet(path: Path) -> _Records:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is no Parquet file ({str(error).splitlines()[0]})") from None
    records = [(f"{path}, row {n}", record) for n, record in enumerate(table.to_pylist(), start=1)]
    return _Records(str(path), tuple(table.column_names), records)


def _hub(source: str) -> _Records:
    import datasets

    name, config, split = [*source.split(":"), "", ""][:3]
    try:
        loaded = datasets.load_dataset(name, config or None, split=split or None)
    except Exception as error:  # whatever the network, the hub or the data set's files raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"the data set {source} cannot be loaded from the hub ({reason})",
            hint="check the id and the network, or give a file",
        ) from None
    if isinstance(loaded, dict):
        if len(loaded) > 1:
            raise DataError(
                f"{source} has several splits",
                allowed=[f"{name}:{config}:{known}" for known in loaded],
            )
        loaded = next(iter(loaded.values()))
    classes = {
        column: feature.names
        for column, feature in loaded.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    records = []
    for number, record in enumerate(loaded, start=1):
        for column, names in classes.items():
            # The hub marks a row without a label with -1.
            value = record[column]
            record[column] = names[value] if value is not None and value >= 0 else None
        records.append((f"{source}, row {number}", record))
    return _Records(source, tuple(loaded.column_names), records)


def _records(name: str, records: list[tuple[str, dict[str, Any]]]) -> _Records:
    columns: Iterable[str] = dict.fromkeys(key for _, record in records for key in record)
    return _Records(name, tuple(columns), records)


def _string(value: object) -> str:
    # NaN is the missing value of data frames.
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a truth value"}
    return kinds.get(type(value), "null" if value is None else "a number")
