"""What a source holds, before anything is made of it: JSONL, CSV, TSV, Parquet, or the hub.

Knows how each format is read and what can be wrong with it; every complaint names the file and the
line or row. Rows are numbered from 1; the lines of a file are the file's own, header included.
Knows nothing of texts, labels and languages.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from layerbridge.errors import DataError
from layerbridge.tasks import hub

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Records:
    """A source's content.

    Attributes:
        name: of the source, for messages.
        columns: in the order of the source.
        records: where each was found, for messages, and the record itself.
    """

    name: str
    columns: tuple[str, ...]
    records: Sequence[tuple[str, dict[str, Any]]]


def read(source: str) -> Records:
    """All of a source.

    Args:
        source: a path that ends in .jsonl, .csv, .tsv or .parquet (UTF-8), or a name of
            ``layerbridge.tasks.hub``.

    Raises:
        DataError: it is missing, damaged, or of another format.
    """
    if is_local(source):
        return _guarded(_readers()[Path(source).suffix.lower()], Path(source), source)
    if source.startswith(hub.FILE_PREFIX):
        return _of_hub_file(source)
    columns, records = hub.load(source)
    return Records(source, columns, _numbered(source, records))


def count(source: str) -> int | None:
    """How many rows a file has, found out without reading more than needed; None for the hub.

    Raises:
        DataError: the file is missing or damaged, as far as it was read.
    """
    if not is_local(source):
        return None
    counters = {".jsonl": _count_lines, ".parquet": _count_parquet}
    counter = counters.get(Path(source).suffix.lower(), lambda path: len(_csv(path).records))
    return _guarded(counter, Path(source), source)


def is_local(source: str) -> bool:
    """Whether the source is a file's path, and not a name of the hub.

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
            f"{source} is of no format that can be read",
            allowed=f"{', '.join(SUFFIXES)}, or a hub id such as facebook/xnli:en:validation",
        )
    return False


def kind(value: object) -> str:
    """What a value is called in a message: ``a list``, ``null``, …"""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a truth value"}
    return kinds.get(type(value), "null" if value is None else "a number")


def _readers() -> dict[str, Callable[[Path], Records]]:
    return {".jsonl": _jsonl, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}


def _guarded(work: Callable[[Path], Result], path: Path, source: str) -> Result:
    if not path.is_file():
        raise DataError(f"there is no file {source}", hint="check the path")
    try:
        return work(path)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source} is not UTF-8 (byte {error.start})", hint="save the file as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror or error})") from None


def _of_hub_file(source: str) -> Records:
    suffix = Path(source).suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{source} is of no format that can be read", allowed=SUFFIXES)
    found = _readers()[suffix](hub.fetch(source))
    # The path in the cache would tell nobody which data set it is.
    return Records(source, found.columns, _numbered(source, [item for _, item in found.records]))


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
                    allowed="one JSON object a line",
                ) from None
            if not isinstance(record, dict):
                raise DataError(f"{where} is {kind(record)}", allowed="one JSON object a line")
            records.append((where, record))
    columns = tuple(dict.fromkeys(key for _, record in records for key in record))
    return Records(str(path), columns, records)


def _csv(path: Path) -> Records:
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
    return Records(str(path), tuple(header), records)


def _parquet(path: Path) -> Records:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is no Parquet file ({str(error).splitlines()[0]})") from None
    return Records(str(path), tuple(table.column_names), _numbered(str(path), table.to_pylist()))


def _count_lines(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def _count_parquet(path: Path) -> int:
    import pyarrow
    import pyarrow.parquet

    try:
        return int(pyarrow.parquet.read_metadata(path).num_rows)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is no Parquet file ({str(error).splitlines()[0]})") from None
