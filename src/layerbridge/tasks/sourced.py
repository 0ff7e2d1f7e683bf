"""Tasks whose rows are read: from files or from the hub, it is all the same here.

What keeps a choice on English rows from having seen the test, beyond what ``Task`` does by type:

- A file cannot be training or validation rows and test rows at once.
- A validation row whose text is an English test text is left out, and so is a training row whose
  text is an English validation or test text. ``dropped`` tells how many. Texts are compared as the
  encoder gets them, less case and white space.
- Where there are no validation rows, every tenth training text is held out for them.

Which rows are taken when not all are wanted depends on their places in the file alone. So it is the
same on every machine, and for test sets that are translations of each other the same items are
asked in every language.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from layerbridge.errors import DataError
from layerbridge.tasks import hub, records
from layerbridge.tasks.dataset_info import DatasetInfo
from layerbridge.tasks.files import read_rows
from layerbridge.tasks.labels import Labels
from layerbridge.tasks.task import Row, Task

# Of every order and choice made here; the paper's.
SEED = 42
HELD_OUT = 10


class SourcedTask(Task):
    """A task whose rows come out of sources that ``layerbridge.tasks.records`` reads.

    A subclass sets what ``Task`` asks for and the attributes below, says where rows are, and calls
    ``check_apart`` once it can say so.

    Args:
        train_per_label: so many training rows of each label, the first in the file; None for all.
        max_test: so many test rows a language; None for all.

    Attributes:
        labels: the raw labels and their words.
        target: the column with the raw label.
        parallel: whether row n is the same item in every language; then n is its id, unless there
            is a column ``id``.
        unpaired: languages of a parallel test set whose rows are in another order.
        published: rows by split, where they are known without reading.
        holds_out: whether validation rows are taken out of the training rows.

    Raises:
        DataError: a number out of range.
    """

    labels: Labels
    target: str
    parallel: bool = False
    unpaired: Collection[str] = ()
    published: Mapping[str, int] = {}
    holds_out: bool = False

    def __init__(self, train_per_label: int | None = None, max_test: int | None = None) -> None:
        for name, number in (("train_per_label", train_per_label), ("max_test", max_test)):
            whole = isinstance(number, int) and not isinstance(number, bool)
            if number is not None and not (whole and number >= 1):
                raise DataError(f"{name} is {number!r}", allowed="a whole number from 1, or None")
        self.train_per_label = train_per_label
        self.max_test = max_test
        self._rows: dict[tuple[str, str], list[Row]] = {}

    @abstractmethod
    def source(self, split: str, language: str = "en") -> str | None:
        """Where the rows of ``train``, ``validation`` or ``test`` are; None if there are none."""

    def dropped(self) -> dict[str, int]:
        """See ``Task.dropped``; reads all English rows."""
        counts = {"train": self._split.dropped, "validation": 0}
        if not self.holds_out and self.source("validation") is not None:
            counts["validation"] = len(self._read("validation")) - len(self._validation())
        return {split: number for split, number in counts.items() if number}

    def holdings(self) -> DatasetInfo:
        """See ``Task.holdings``; counts the lines of files and reads none of them."""
        wanted = [("train", "en"), *(("test", language) for language in self.languages)]
        if not self.holds_out:
            wanted.insert(1, ("validation", "en"))
        sources = {key: self.source(*key) for key in wanted}
        rows = {
            key: None if source is None else self._count(key[0], source)
            for key, source in sources.items()
        }
        return DatasetInfo(
            self._place(list(sources.values())),
            rows["train", "en"],
            rows.get(("validation", "en")),
            {language: rows["test", language] for language in self.languages},
        )

    def _train(self) -> list[Row]:
        rows = self._split.train
        if self.train_per_label is not None:
            rows = _first_of_each(rows, self.train_per_label)
        return [rows[place] for place in _shuffled(len(rows))]

    def _validation(self) -> list[Row]:
        if self.holds_out:
            return list(self._split.validation)
        return [row for row in self._read("validation") if _key(row) not in self._tested]

    def _test(self, language: str) -> list[Row]:
        rows = self._read("test", language)
        if self.max_test is None:
            return list(rows)
        return [rows[place] for place in sorted(_shuffled(len(rows))[: self.max_test])]

    @cached_property
    def _tested(self) -> set[str]:
        """The English test texts; no label of theirs is looked at."""
        if self.source("test") is None:
            return set()
        return {_key(row) for row in self._read("test")}

    @cached_property
    def _split(self) -> _Split:
        rows = self._read("train")
        fresh = [row for row in rows if _key(row) not in self._tested]
        validation: list[Row] = []
        if self.holds_out:
            kept, validation = _held_out(fresh)
        else:
            known: set[str] = set()
            if self.source("validation") is not None:
                known = {_key(row) for row in self._read("validation")}
            kept = fresh = [row for row in fresh if _key(row) not in known]
        if not kept:
            raise DataError(
                f"no training row of the task {self.name} is left: every text of "
                f"{self.source('train')} is also an English validation or test text",
                hint="give a training file of its own",
            )
        return _Split(kept, validation, len(rows) - len(fresh))

    def _read(self, split: str, language: str = "en") -> list[Row]:
        if (split, language) not in self._rows:
            source = self.source(split, language)
            if source is None:
                raise self._missing(split, language)
            rows = read_rows(
                source,
                template=self.file_template,
                target=self.target,
                labels=self.labels,
                language=language,
            )
            if split == "test":
                rows = self._with_test_ids(rows, language)
            self._rows[split, language] = rows
        return self._rows[split, language]

    def _with_test_ids(self, rows: list[Row], language: str) -> list[Row]:
        if self.parallel and language not in self.unpaired:
            return rows
        # An item of another language must not look like this one.
        return [replace(row, id=f"{language}/{row.id}") for row in rows]

    def _missing(self, split: str, language: str) -> DataError:
        return DataError(f"the task {self.name} has no {split} rows in {language!r}")

    def check_apart(self) -> None:
        """Whether no file serves two splits.

        Raises:
            DataError: one does.
        """
        given = [("training", self.source("train")), ("validation", self.source("validation"))]
        given += [
            (f"test ({language})", self.source("test", language)) for language in self.languages
        ]
        seen: dict[str, str] = {}
        for split, source in given:
            if source is None:
                continue
            place = str(Path(source).resolve()) if records.is_local(source) else source
            if seen.setdefault(place, split) != split:
                raise DataError(
                    f"{source} is given as {seen[place]} rows and as {split} rows of the task "
                    f"{self.name}",
                    hint="give each a file of its own",
                )

    def _place(self, sources: Sequence[str | None]) -> str:
        places = [
            "local" if records.is_local(source) else "hub cache"
            for source in sources
            if source is not None and (records.is_local(source) or hub.is_cached(source))
        ]
        if not places:
            return "not yet"
        part = "" if len(places) == len(sources) else f", {len(places)} of {len(sources)} files"
        return " and ".join(dict.fromkeys(places)) + part

    def _count(self, split: str, source: str) -> int | None:
        count = records.count(source)
        return self.published.get(split) if count is None else count


class _Split(NamedTuple):
    """Training rows in the order of the file, rows held out of them, and how many were dropped."""

    train: list[Row]
    validation: list[Row]
    dropped: int


def _first_of_each(rows: Sequence[Row], most: int) -> list[Row]:
    taken: Counter[str] = Counter()
    first = []
    for row in rows:
        taken[row.target] += 1
        if taken[row.target] <= most:
            first.append(row)
    return first


def _held_out(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Training and validation rows; rows with one text stay together."""
    texts = sorted({_key(row) for row in rows}, key=_hash)
    chosen = set(texts[: max(1, len(texts) // HELD_OUT)])
    return (
        [row for row in rows if _key(row) not in chosen],
        [row for row in rows if _key(row) in chosen],
    )


def _shuffled(number: int) -> list[int]:
    """The places 0, 1, … in an order that is the same on every machine and Python."""
    return sorted(range(number), key=lambda place: _hash(str(place)))


def _key(row: Row) -> str:
    return " ".join(row.text.casefold().split())


def _hash(text: str) -> bytes:
    return hashlib.sha256(f"{SEED}/{text}".encode()).digest()
