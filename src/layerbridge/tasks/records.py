"""Reads the records of a source: JSONL, CSV, TSV, Parquet, or the Hugging Face Hub.

Every error names the file and the line or row. Rows are numbered from 1; line numbers are those of
the file, header included. Knows nothing about texts, labels and languages.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from layerbridge.errors import DataError
from layerbridge.tasks import hub
from layerbridge.tasks.swallowed_rows import swallowed_rows

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
# By what the ending promises, and what a spreadsheet writes instead in some countries.
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
QUOTES = "quote cells that contain quotes, separators or line breaks, and double the quotes in them"


@dataclass(frozen=True)
class Records:
    """A source's content.

    Attributes:
        name: of the source, for messages.
        columns: in the order of the source.
        records: each record with its location, for messages.
        swallowed: location → the records that this record may be, if a quote is not closed.
    """

    name: str
    columns: tuple[str, ...]
    records: Sequence[tuple[str, dict[str, Any]]]
    swallowed: Mapping[str, list[dict[str, str]]] = field(default_factory=dict)


def read(source: str) -> Records:
    """Reads all records of a source.

    Args:
        source: a path that ends in .jsonl, .csv, .tsv or .parquet (UTF-8), or a name of
            ``layerbridge.tasks.hub``.

    Raises:
        DataError: it is missing, damaged or of another format.
    """
    if is_local(source):
        with _readable(source) as path:
            return _reader(source)(path)
    if source.startswith(hub.FILE_PREFIX):
        reader = _reader(source)
        data = reader(hub.fetch(source))
        # The path in the cache would not say which data set it is.
        return Records(source, data.columns, _numbered(source, [item for _, item in data.records]))
    columns, records = hub.load(source)
    return Records(source, columns, _numbered(source, records))


def count(source: str) -> int | None:
    """Counts the rows of a file, reading as little as possible; None for the hub.

    Raises:
        DataError: the file is missing, or the part that was read is damaged.
    """
    if not is_local(source):
        return None
    with _readable(source) as path:
        if path.suffix.lower() == ".jsonl":
            with path.open("rb") as lines:
                return sum(1 for line in lines if line.strip())
        if path.suffix.lower() == ".parquet":
            with _parquet_errors(path) as parquet:
                return int(parquet.read_metadata(path).num_rows)
        return len(_csv(path).records)


def is_local(source: str) -> bool:
    """Returns whether the source is a file path, as opposed to a name on the hub.

    Raises:
        DataError: it is neither.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    if source.startswith(hub.FILE_PREFIX):
        return False
    if path.is_dir():
        raise DataError(f"{source} is a folder", allowed=f"a file ending in {', '.join(SUFFIXES)}")
    if suffix in SUFFIXES:
        return True
    if path.exists() or not hub.is_id(source) or ("/" not in source and suffix):
        raise DataError(
            f"{source} has an unsupported format",
            allowed=f"{', '.join(SUFFIXES)}, or a hub id such as facebook/xnli:en:validation",
        )
    return False


def kind(value: object) -> str:
    """Names the type of a value for messages: ``a list``, ``null``, ``binary data``, …"""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    kinds |= {int: "a number", float: "a number", bytes: "binary data", type(None): "null"}
    return kinds.get(type(value), f"a value of type {type(value).__name__}")


def _reader(source: str) -> Callable[[Path], Records]:
    readers = {".jsonl": _jsonl, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    suffix = Path(source).suffix.lower()
    if suffix not in readers:
        raise DataError(f"{source} has an unsupported format", allowed=SUFFIXES)
    return readers[suffix]


@contextmanager
def _readable(source: str) -> Iterator[Path]:
    """Turns what reading a file raises into one line."""
    path = Path(source)
    if not path.is_file():
        raise DataError(f"the file {source} does not exist", hint="check the path")
    try:
        yield path
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source} is not UTF-8 (byte {error.start})", hint="save the file as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(f"cannot read {source} ({error.strerror or error})") from None


def _numbered(name: str, records: Iterable[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{name}, row {number}", record) for number, record in enumerate(records, start=1)]


def _jsonl(path: Path) -> Records:
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
                    allowed="one JSON object per line",
                ) from None
            if not isinstance(record, dict):
                raise DataError(f"{where} is {kind(record)}", allowed="one JSON object per line")
            records.append((where, record))
    columns = tuple(dict.fromkeys(key for _, record in records for key in record))
    return Records(str(path), columns, records)


def _csv(path: Path) -> Records:
    records, swallowed = [], {}
    with path.open(encoding="utf-8-sig", newline="") as lines:
        number = 1
        try:
            delimiter = _delimiter(lines, "\t" if path.suffix.lower() == ".tsv" else ",")
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            header = next(reader, [])
            repeated = [name for name in header if header.count(name) > 1]
            if repeated:
                raise DataError(f"{path} has two columns named {repeated[0]!r}")
            number = reader.line_num + 1
            for cells in reader:
                where, number = f"{path}, line {number}", reader.line_num + 1
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{where} has {len(cells)} cells separated by {_DELIMITERS[delimiter]}",
                        allowed=f"{len(header)}, as in the header",
                        hint=QUOTES,
                    )
                records.append((where, dict(zip(header, cells, strict=True))))
                if rows := swallowed_rows(cells, delimiter):
                    swallowed[where] = [dict(zip(header, row, strict=True)) for row in rows]
        except csv.Error as error:
            raise DataError(
                f"{path}, line {number} is malformed ({error})",
                hint=QUOTES,
            ) from None
    return Records(str(path), tuple(header), records, swallowed)


def _delimiter(lines: TextIO, usual: str) -> str:
    """Returns the usual delimiter, or another one if only that divides the header."""
    for delimiter in (usual, *_DELIMITERS):
        header = next(csv.reader(lines, delimiter=delimiter), [])
        lines.seek(0)
        if len(header) > 1:
            return delimiter
    return usual


def delimiter_in(columns: Iterable[str]) -> str | None:
    """Names a delimiter in a column's name, which may be what separates the columns."""
    names = "".join(columns)
    return next((word for sign, word in _DELIMITERS.items() if sign in names), None)


def _parquet(path: Path) -> Records:
    with _parquet_errors(path) as parquet:
        table = parquet.read_table(path)
    return Records(str(path), tuple(table.column_names), _numbered(str(path), table.to_pylist()))


@contextmanager
def _parquet_errors(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        yield pyarrow.parquet
    except pyarrow.ArrowException as error:
        problem = str(error).splitlines()[0]
        raise DataError(f"{path} is not a Parquet file ({problem})") from None
