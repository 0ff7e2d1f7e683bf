"""Rows of a source that is larger than memory may hold: an Arrow file on the disk, read row by row.

The file is written once per run, in the order of the source, and gives random access: shuffling,
batches by length, a split and an exact resume work as with rows in memory. An iterable data set
has none of these: it shuffles a buffer only, has no length, and resumes by reading from the start.

It is Arrow's file format, as in ``datasets``, but read batch by batch instead of mapped: pages of
a mapped file count as memory of the process, and a pass over all rows would take as much of it as
the file is long. ``datasets`` would also keep a copy for every change of the source.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from layerbridge.errors import OutputError
from layerbridge.tasks import hub
from layerbridge.tasks.task import Row, render

if TYPE_CHECKING:
    import numpy as np

# Rows that are read at a time; a random access reads as many.
BATCH = 64
# Characters of rows that are no reason to stay on the disk, and of a sample of rows.
FEW, IN_SAMPLE = 2**25, 2**25
_NUMBER, _ID, _WORD = "number", "id", "word"  # of the file's columns that are no field


@dataclass(frozen=True)
class Layout:
    """What a file of rows holds.

    Attributes:
        columns: whose text the encoder reads, and then the one with the target; other columns of
            the source are not kept.
        template: of the encoder's text; None for the first column alone.
        language: CLDR code of all rows.
    """

    columns: tuple[str, ...]
    template: str | None
    language: str

    def row(self, values: dict[str, Any], *, unique_ids: bool) -> Row:
        """Returns the row that a record of the file stands for."""
        fields = {name: values[f"field {place}"] for place, name in enumerate(self.columns)}
        if values[_ID]:
            fields["id"] = values[_ID]
        text = fields[self.columns[0]] if self.template is None else render(self.template, fields)
        id_ = values[_ID] if unique_ids else str(values[_NUMBER])
        return Row(id_, text, values[_WORD], self.language, fields)


class StoredRows(Sequence[Row]):
    """Rows on the disk, all of them or some, in any order.

    Attributes:
        layout: of the file.
        characters: of each row's text and target, in the order of the rows.
    """

    def __init__(
        self, path: Path, layout: Layout, characters: np.ndarray, *, unique_ids: bool
    ) -> None:
        self.path = path
        self.layout = layout
        self.unique_ids = unique_ids
        self.characters = characters
        self._order: np.ndarray | None = None  # None: as in the file
        self._length = len(characters)
        self._in_order = True
        self._open()

    @classmethod
    def write(
        cls, rows: Iterable[Row], layout: Layout, *, report: Callable[[], None] = lambda: None
    ) -> StoredRows:
        """Writes rows to a temporary file, which disappears with the last use of it.

        Args:
            rows: with the number of the source's row as their id.
            layout: of the file; the rows' fields have its columns.
            report: is called after every batch.

        Raises:
            OutputError: the disk has no room.
        """
        folder = temporary_folder()
        try:
            handle, name = tempfile.mkstemp(suffix=".arrow", prefix="layerbridge-", dir=folder)
            os.close(handle)
            owner = _File(Path(name))
            weakref.finalize(owner, _remove, name, os.getpid())
            try:
                characters, unique_ids = _fill(name, rows, layout, report)
            except BaseException:
                _remove(name, os.getpid())  # at once: what is raised may keep the owner
                raise
        except OSError as error:
            raise OutputError(
                f"the rows cannot be written to {folder} ({error.strerror or error})",
                hint="free disk space, or name another folder in HF_DATASETS_CACHE",
            ) from None
        stored = cls(owner.path, layout, characters, unique_ids=unique_ids)
        stored._owner = owner
        return stored

    _owner: _File | None = None  # the file is removed with it

    def _open(self) -> None:
        import pyarrow

        # Not mapped: see above. Reads at a position, so forked workers do not disturb each other.
        self._file = pyarrow.ipc.open_file(pyarrow.OSFile(str(self.path)))

    def __getstate__(self) -> dict[str, Any]:
        """For loader workers that are not forked; the file stays that of this process."""
        return {name: value for name, value in self.__dict__.items() if name not in _PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> StoredRows: ...
    def __getitem__(self, index: int | slice) -> Row | StoredRows:
        import numpy as np

        if isinstance(index, slice):
            return self.select(np.arange(*index.indices(self._length)))
        if not -self._length <= index < self._length:
            raise IndexError(index)
        index = range(self._length)[index]
        place = index if self._order is None else int(self._order[index])
        number, at = divmod(place, BATCH)
        return self._row(self._file.get_batch(number).slice(at, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Row]:
        if not self._in_order:
            yield from (self[index] for index in range(self._length))
            return
        last, records = -1, []
        for place in range(self._length) if self._order is None else self._order:
            number, at = divmod(int(place), BATCH)
            if number != last:
                last, records = number, self._file.get_batch(number).to_pylist()
            yield self._row(records[at])

    def select(self, places: np.ndarray) -> StoredRows:
        """Returns the rows at these places, in their order; the file is shared."""
        import numpy as np

        chosen = object.__new__(StoredRows)
        chosen.__dict__.update(self.__dict__)
        order = places if self._order is None else self._order[places]
        chosen._order = order.astype(np.int32)
        chosen._length = len(order)
        chosen._in_order = bool((np.diff(chosen._order) > 0).all())
        chosen.characters = self.characters[places]
        return chosen

    def _row(self, values: dict[str, Any]) -> Row:
        return self.layout.row(values, unique_ids=self.unique_ids)


# What another process has to make itself, or must not have.
_PROCESS = ("_file", "_owner")


@dataclass(eq=False)
class _File:
    path: Path


def _fill(
    name: str, rows: Iterable[Row], layout: Layout, report: Callable[[], None]
) -> tuple[np.ndarray, bool]:
    """Writes rows to a file; returns their characters, and whether all have an id of their own."""
    import numpy as np
    import pyarrow
    from pyarrow.ipc import new_file

    names = [_NUMBER, _ID, _WORD, *(f"field {n}" for n, _ in enumerate(layout.columns))]
    types = [pyarrow.int64(), *[pyarrow.string()] * (len(names) - 1)]
    schema = pyarrow.schema(list(zip(names, types, strict=True)))
    characters, ids, all_have_ids = array("i"), array("q"), True
    with pyarrow.OSFile(name, "wb") as sink, new_file(sink, schema) as writer:
        for batch in _batches(rows):
            for row in batch:
                characters.append(len(row.text) + len(row.target))
                all_have_ids = all_have_ids and bool(row.fields.get("id"))
                if all_have_ids:
                    ids.append(hash(row.fields["id"]))
            values = [
                [int(row.id) for row in batch],
                [row.fields.get("id", "") for row in batch],
                [row.target for row in batch],
                *([row.fields[column] for row in batch] for column in layout.columns),
            ]
            writer.write_batch(pyarrow.record_batch(values, schema=schema))
            report()
    different = len(np.unique(np.array(ids)))
    return np.array(characters), all_have_ids and different == len(characters)


def _remove(name: str, process: int) -> None:
    if os.getpid() == process:  # not by a forked worker
        Path(name).unlink(missing_ok=True)


def temporary_folder() -> Path:
    """Returns the folder for copies of large sources: that of ``datasets``, which has room."""
    folder = hub.datasets_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.gettempdir())


def check_room(size: int, name: str) -> None:
    """Checks that there is room for the copy of a source.

    Raises:
        OutputError: there is not.
    """
    from rich.filesize import decimal

    folder = temporary_folder()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OutputError(
            f"the rows of {name} take {decimal(size)} on the disk, and {str(folder)!r} has "
            f"{decimal(free)} free",
            hint="free disk space, or name another folder in HF_DATASETS_CACHE",
        )


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def chosen(rows: Sequence[Row], places: np.ndarray) -> Sequence[Row]:
    """Returns the rows at these places, in their order."""
    if isinstance(rows, StoredRows):
        return rows.select(places)
    return [rows[place] for place in places.tolist()]


def sample(rows: Sequence[Row], most: int) -> Sequence[Row]:
    """Returns the rows, or so many of them if they are stored: drawn at random, in their order.

    The draw is the same every time. Of long rows there are fewer: ``IN_SAMPLE`` characters in all.
    """
    import numpy as np

    if not isinstance(rows, StoredRows):
        return rows
    most = min(most, max(1, round(IN_SAMPLE / max(1.0, rows.characters.mean()))))
    if len(rows) <= most:
        return rows
    # Not torch's generator, whose next numbers must not depend on this.
    places = random.Random(0).sample(range(len(rows)), most)
    return rows.select(np.array(sorted(places)))


def loaded(rows: Sequence[Row]) -> Sequence[Row]:
    """Returns the rows, in memory if they are few enough."""
    import numpy as np

    few = isinstance(rows, StoredRows) and rows.characters.sum(dtype=np.int64) <= FEW
    return list(rows) if few else rows


class Texts(Sequence[str]):
    """The texts of rows, read when they are asked for."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [row.text for row in self.rows[index]]
        return self.rows[index].text

    def __iter__(self) -> Iterator[str]:
        return (row.text for row in self.rows)
