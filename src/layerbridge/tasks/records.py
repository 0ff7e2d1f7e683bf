"""Reads the records of a source: JSONL, CSV, TSV, Parquet, or the Hugging Face Hub.

Every error names the file and the line or row. Rows are numbered from 1; line numbers are those of
the file, header included. Records of a large source are not kept: they are read anew each time they
are asked for. Knows nothing about texts, labels and languages.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from layerbridge.errors import DataError
from layerbridge.tasks import hub
from layerbridge.tasks.swallowed_rows import swallowed_rows

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
# Bytes of a source whose records are kept in memory, where they take about five times as much.
LARGE = 64 * 2**20
# Records of a large JSONL file whose columns are listed.
LISTED = 10_000
# By what the ending promises, and what a spreadsheet writes instead in some countries.
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
QUOTES = "quote cells that contain quotes, separators or line breaks, and double the quotes in them"

# A record with its location, for messages.
Located = tuple[str, dict[str, Any]]


@dataclass
class Position:
    """How much of a source has been read: bytes, or rows where a file cannot say.

    Attributes:
        total: of the source.
        unit: in which it is told: 1 of rows, 2²⁰ of bytes.
        done: returns how much of it has been read.
    """

    total: int = 0
    unit: int = 2**20
    done: Callable[[], int] = field(default=lambda: 0)

    def follow(self, path: Path, file: TextIO) -> None:
        """Tells how far a file has been read, while it is open."""
        self.total = path.stat().st_size
        self.done = partial(os.lseek, file.fileno(), 0, os.SEEK_CUR)


@dataclass(frozen=True)
class Records:
    """A source's content.

    Attributes:
        name: of the source, for messages.
        columns: in the order of the source; of a large JSONL file, those of its first records.
        records: each record with its location; of a large source, read while they are iterated.
        swallowed: location → the records that this record may be, if a quote is not closed; of a
            large source, known once the record has been read.
        position: of the reader of a large source; None if the records are in memory.
    """

    name: str
    columns: tuple[str, ...]
    records: Iterable[Located]
    swallowed: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    position: Position | None = None


class _Stream:
    """What can be iterated several times; each time, ``make`` is called."""

    def __init__(self, make: Callable[[], Iterator[Located]]) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Located]:
        return self.make()


def read(source: str) -> Records:
    """Reads the records of a source.

    Args:
        source: a path that ends in .jsonl, .csv, .tsv or .parquet (UTF-8), or a name of
            ``layerbridge.tasks.hub``.

    Raises:
        DataError: it is missing, damaged or of another format; of a large source, also while its
            records are iterated.
    """
    if is_local(source):
        return _of_file(source)
    if source.startswith(hub.FILE_PREFIX):
        _check_suffix(source)
        data = _of_file(str(hub.fetch(source)))
        # The path in the cache would not say which data set it is.
        return _renumbered(source, data.columns, data.records, data.position)
    loaded = hub.load(source)
    position = None
    if loaded.bytes > LARGE:
        position = Position(len(loaded), unit=1)
    return _renumbered(source, loaded.columns, loaded, position)


def _renumbered(
    name: str, columns: tuple[str, ...], records: Iterable[Any], position: Position | None
) -> Records:
    """Returns records whose locations are their numbers in a source of the hub."""

    def numbered() -> Iterator[Located]:
        counter = 0
        if position is not None and isinstance(records, hub.HubRows):
            position.done = lambda: counter
        for counter, item in enumerate(records, start=1):
            yield f"{name}, row {counter}", item[1] if isinstance(item, tuple) else item

    stream = _Stream(numbered)
    kept = stream if position is not None else list(stream)
    return Records(name, columns, kept, position=position)


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
        return sum(1 for _ in _csv(path, Position(), {}))


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


def size(source: str) -> int | None:
    """Returns the bytes of a file's rows, to compare with ``LARGE``; None for the hub.

    Raises:
        DataError: it is missing or damaged.
    """
    if not is_local(source):
        return None
    with _readable(source) as path:
        return _size(path)


def _size(path: Path) -> int:
    if path.suffix.lower() != ".parquet":
        return path.stat().st_size
    with _parquet_errors(path) as parquet:
        facts = parquet.read_metadata(path)
    # Of the columns before they were compressed.
    return sum(facts.row_group(group).total_byte_size for group in range(facts.num_row_groups))


def _check_suffix(source: str) -> None:
    if Path(source).suffix.lower() not in SUFFIXES:
        raise DataError(f"{source} has an unsupported format", allowed=SUFFIXES)


def _of_file(source: str) -> Records:
    _check_suffix(source)
    with _readable(source) as path:
        position = Position()
        swallowed: dict[str, list[dict[str, str]]] = {}
        suffix = path.suffix.lower()

        def make() -> Iterator[Located]:
            swallowed.clear()
            try:
                with _readable(source):
                    if suffix == ".jsonl":
                        yield from _jsonl(path, position)
                    elif suffix == ".parquet":
                        yield from _parquet(path, position)
                    else:
                        yield from _csv(path, position, swallowed)
            finally:  # the file is closed
                position.done = lambda: position.total

        stream = _Stream(make)
        is_large = _size(path) > LARGE
        kept = stream if is_large else list(stream)
        if suffix == ".jsonl":
            listed = islice(kept, LISTED) if is_large else kept
            columns = tuple(dict.fromkeys(key for _, record in listed for key in record))
        elif suffix == ".parquet":
            with _parquet_errors(path) as parquet:
                columns = tuple(parquet.read_schema(path).names)
        else:
            with path.open(encoding="utf-8-sig", newline="") as lines:
                columns = tuple(_header(path, lines)[0])
    return Records(source, columns, kept, swallowed, position if is_large else None)


@contextmanager
def _readable(source: str) -> Iterator[Path]:
    """Turns what reading a file raises into one line."""
    path = Path(source)
    if not path.is_file():
        raise DataError(f"the file {source} does not exist", hint="check the path")
    try:
        yield path
    except UnicodeDecodeError:
        where, byte = _undecodable(path)
        raise DataError(
            f"{where} is not UTF-8 (byte {byte} of the line)", hint="save the file as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(f"cannot read {source} ({error.strerror or error})") from None


def _undecodable(path: Path) -> tuple[str, int]:
    """Returns the first line that is not UTF-8, and which of its bytes; the error has neither."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"{path}, line {number}", error.start + 1
    raise AssertionError("a decoder has failed on the same bytes")


def _jsonl(path: Path, position: Position) -> Iterator[Located]:
    with path.open(encoding="utf-8-sig") as lines:
        position.follow(path, lines)
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
            yield where, record


def _csv(
    path: Path, position: Position, swallowed: dict[str, list[dict[str, str]]]
) -> Iterator[Located]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        position.follow(path, lines)
        number = 1
        try:
            header, delimiter, reader = _header(path, lines)
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
                if rows := swallowed_rows(cells, delimiter):
                    swallowed[where] = [dict(zip(header, row, strict=True)) for row in rows]
                yield where, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise _malformed(path, number, error) from None


def _header(path: Path, lines: TextIO) -> tuple[list[str], str, Any]:
    """Returns the columns of a table, what separates them, and a reader of the other rows."""
    try:
        delimiter = _delimiter(lines, "\t" if path.suffix.lower() == ".tsv" else ",")
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = next(reader, [])
    except csv.Error as error:
        raise _malformed(path, 1, error) from None
    repeated = [name for name in header if header.count(name) > 1]
    if repeated:
        raise DataError(f"{path} has two columns named {repeated[0]!r}")
    return header, delimiter, reader


def _malformed(path: Path, line: int, error: csv.Error) -> DataError:
    return DataError(f"{path}, line {line} is malformed ({error})", hint=QUOTES)


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


def _parquet(path: Path, position: Position) -> Iterator[Located]:
    done = 0
    with _parquet_errors(path) as parquet, parquet.ParquetFile(path) as file:
        position.total, position.unit = file.metadata.num_rows, 1
        position.done = lambda: done
        for batch in file.iter_batches(batch_size=1024):
            for record in batch.to_pylist():
                done += 1
                yield f"{path}, row {done}", record


@contextmanager
def _parquet_errors(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        yield pyarrow.parquet
    except pyarrow.ArrowException as error:
        problem = str(error).splitlines()[0]
        raise DataError(f"{path} is not a Parquet file ({problem})") from None
