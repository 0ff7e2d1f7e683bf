"""Tasks whose rows are read from files or from the Hugging Face Hub.

What keeps choices on English rows independent of the test set, beyond the interface of ``Task``:

- One file cannot serve as both test rows and training or validation rows.
- A validation row whose text is an English test text is left out, and so is a training row whose
  text is an English validation or test text; ``dropped`` counts them. Texts are compared as the
  encoder gets them, ignoring case, white space and Unicode form.
- Without validation rows, every tenth training text is held out for validation.

Which rows are taken when not all are wanted depends only on their positions in the file. So it is
the same on every machine, and test sets that are translations of each other use the same items.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from layerbridge.errors import DataError
from layerbridge.tasks import hub, records
from layerbridge.tasks.files import read_rows
from layerbridge.tasks.labels import Labels
from layerbridge.tasks.stored_rows import StoredRows, chosen
from layerbridge.tasks.task import DatasetInfo, Row, Task
from layerbridge.tasks.text import comparison_key

if TYPE_CHECKING:
    import numpy as np

# The paper's seed, for every order and choice made here.
SEED = 42
HELD_OUT = 0.1
# Of a large source, unless a share is asked for: more texts would take longer than the training.
MOST_HELD_OUT = 10_000


class SourcedTask(Task):
    """A task whose rows come from sources that ``layerbridge.tasks.records`` reads.

    A subclass sets the attributes of ``Task`` and those below, implements ``source``, and calls
    ``check_apart`` at the end of its constructor.

    Args:
        train_per_label: number of training rows per label, the first in the file; None for all.
        max_test: number of test rows per language; None for all.

    Attributes:
        labels: the raw labels and their words.
        target: the column with the raw label.
        parallel: whether row n is the same item in every language. If so, n is its id and its item,
            unless there is a column ``id``.
        unpaired: languages of a parallel test set whose rows are in another order.
        published: number of rows by split, where known without reading.
        holds_out: whether validation rows are taken from the training rows.
        skip_unknown_labels: whether rows with a label that the task lacks are left out, counted;
            otherwise they are an error. None if the task has no such option.

    Raises:
        DataError: a number is out of range.
    """

    labels: Labels
    target: str
    parallel: bool = False
    unpaired: Collection[str] = ()
    published: Mapping[str, int] = {}
    holds_out: bool = False
    skip_unknown_labels: bool | None = None

    def __init__(self, train_per_label: int | None = None, max_test: int | None = None) -> None:
        for name, number in (("train_per_label", train_per_label), ("max_test", max_test)):
            is_integer = isinstance(number, int) and not isinstance(number, bool)
            if number is not None and not (is_integer and number >= 1):
                raise DataError(f"{name} is {number!r}", allowed="a positive integer, or None")
        self.train_per_label = train_per_label
        self.max_test = max_test
        self._rows: dict[tuple[str, str], Sequence[Row]] = {}

    @abstractmethod
    def source(self, split: str, language: str = "en") -> str | None:
        """Returns the source of ``train``, ``validation`` or ``test`` rows; None without one."""

    def dropped(self) -> dict[str, int]:
        """See ``Task.dropped``; reads all English rows."""
        counts = {"train": self._split.dropped, "validation": 0}
        if not self.holds_out and self.source("validation") is not None:
            counts["validation"] = len(self._read("validation")) - len(self._validation())
        return {split: number for split, number in counts.items() if number}

    def watched(self, language: str) -> list[Row]:
        """See ``Task.watched``.

        Raises:
            DataError: a file cannot be read.
        """
        source = self.source("validation", language)
        if source is None or source == self.source("validation"):
            return []
        if not (records.is_local(source) or hub.is_cached(source)):
            return []
        return list(self._read("validation", language))

    def dataset_info(self) -> DatasetInfo:
        """See ``Task.dataset_info``; counts the lines of files without reading rows."""
        splits = [("train", "en"), *(("test", language) for language in self.languages)]
        if not self.holds_out:
            splits.insert(1, ("validation", "en"))
        sources = {key: self.source(*key) for key in splits}
        rows: dict[tuple[str, str], int | None] = {}
        for key, source in sources.items():
            count = None if source is None else records.count(source)
            known = None if source is None else self.published.get(key[0])
            rows[key] = known if count is None else count
        return DatasetInfo(
            self._place(list(sources.values())),
            rows["train", "en"],
            rows.get(("validation", "en")),
            {language: rows["test", language] for language in self.languages},
        )

    def check_apart(self) -> None:
        """Checks that no file serves two splits.

        Raises:
            DataError: one does.
        """
        sources = {
            "training": self.source("train"),
            "validation": self.source("validation"),
            **{f"test ({code})": self.source("test", code) for code in self.languages},
        }
        seen: dict[str, str] = {}
        for split, source in sources.items():
            if source is None:
                continue
            place = str(Path(source).resolve()) if records.is_local(source) else source
            if seen.setdefault(place, split) != split:
                raise DataError(
                    f"{source} is used for both {seen[place]} and {split} rows of the task "
                    f"{self.name}",
                    hint="use a separate file for each",
                )

    def _train(self) -> Sequence[Row]:
        rows = self._split.train
        if self.train_per_label is not None:
            rows = first_of_each(rows, self.train_per_label)
        return chosen(rows, _shuffled(len(rows)))

    def _validation(self) -> list[Row]:
        if self.holds_out:
            return list(self._split.validation)
        return [row for row in self._read("validation") if _key(row) not in self._test_texts]

    def _test(self, language: str) -> list[Row]:
        import numpy as np

        rows = self._read("test", language)
        if self.max_test is None:
            return list(rows)
        return list(chosen(rows, np.sort(_shuffled(len(rows))[: self.max_test])))

    @cached_property
    def _test_texts(self) -> set[str]:
        """The English test texts; their labels are not used."""
        if self.source("test") is None:
            return set()
        return {_key(row) for row in self._read("test")}

    @cached_property
    def _split(self) -> _Split:
        rows = self._read("train")
        unseen = _where(rows, lambda row: _key(row) not in self._test_texts)
        train, validation = unseen, list[Row]()
        if self.holds_out:
            train, held = held_out(unseen)
            validation = list(held)
        elif self.source("validation") is not None:
            known = {_key(row) for row in self._read("validation")}
            train = unseen = _where(unseen, lambda row: _key(row) not in known)
        if not len(train):
            raise DataError(
                f"the task {self.name} has no training rows left: every text of "
                f"{self.source('train')} is also an English validation or test text",
                hint="use a separate training file",
            )
        return _Split(train, validation, len(rows) - len(unseen))

    def _read(self, split: str, language: str = "en") -> Sequence[Row]:
        if (split, language) not in self._rows:
            source = self.source(split, language)
            if source is None:
                raise self._missing(split, language)
            rows = read_rows(
                source,
                template=self.file_template,
                target=self.target,
                labels=self.labels,
                skip_unknown=self.skip_unknown_labels,
                language=language,
                on_disk=split == "train",
            )
            if split == "test":
                # An item of another language must not look like this one.
                own = "" if self.parallel and language not in self.unpaired else f"{language}/"
                rows = [replace(row, id=own + row.id, item=own + row.id) for row in rows]
            self._rows[split, language] = rows
        return self._rows[split, language]

    def _missing(self, split: str, language: str) -> DataError:
        return DataError(f"the task {self.name} has no {split} rows in {language!r}")

    def _place(self, sources: Sequence[str | None]) -> str:
        locations = [
            "local" if records.is_local(source) else "hub cache"
            for source in sources
            if source is not None and (records.is_local(source) or hub.is_cached(source))
        ]
        if not locations:
            return "not yet"
        part = (
            "" if len(locations) == len(sources) else f", {len(locations)} of {len(sources)} files"
        )
        return " and ".join(dict.fromkeys(locations)) + part


class _Split(NamedTuple):
    """Training rows in file order, the rows held out of them, and how many were dropped."""

    train: Sequence[Row]
    validation: list[Row]
    dropped: int


def split_codes(languages: str | Sequence[str]) -> Sequence[str]:
    """Splits ``"en,si"``; a sequence of codes is returned as it is."""
    return languages.split(",") if isinstance(languages, str) else languages


def _where(rows: Sequence[Row], holds: Callable[[Row], bool]) -> Sequence[Row]:
    """Returns the rows of which something holds."""
    import numpy as np

    return chosen(rows, np.flatnonzero(np.fromiter(map(holds, rows), bool, len(rows))))


def first_of_each(rows: Sequence[Row], most: int) -> Sequence[Row]:
    """Returns the first rows of each label, at most so many."""
    counts: Counter[str] = Counter()

    def is_first(row: Row) -> bool:
        counts[row.target] += 1
        return counts[row.target] <= most

    return _where(rows, is_first)


def held_out(
    rows: Sequence[Row], share: float | None = None
) -> tuple[Sequence[Row], Sequence[Row]]:
    """Splits into training and validation rows; rows with the same text stay together.

    Args:
        rows: in any order; which are held out depends on their texts alone.
        share: of the different texts that are held out, at least one; None takes a tenth, and of a
            large source at most ``MOST_HELD_OUT`` texts.
    """
    import numpy as np

    if not len(rows):
        return rows, rows
    hashes = _numbers((_key(row) for row in rows), len(rows))
    texts = np.unique(hashes)
    number = max(1, int(len(texts) * (HELD_OUT if share is None else share)))
    if share is None and isinstance(rows, StoredRows):
        number = min(number, MOST_HELD_OUT)
    is_held = hashes <= texts[number - 1]
    return chosen(rows, np.flatnonzero(~is_held)), chosen(rows, np.flatnonzero(is_held))


def _shuffled(number: int) -> np.ndarray:
    """Returns 0 … number - 1 in an order that is the same on every machine and Python."""
    import numpy as np

    return np.argsort(_numbers(map(str, range(number)), number), kind="stable")


def _numbers(texts: Iterable[str], count: int) -> np.ndarray:
    """Returns the beginnings of the texts' hashes, which sort as these do."""
    import numpy as np

    return np.fromiter((int.from_bytes(_hash(text)[:8]) for text in texts), np.uint64, count)


def _key(row: Row) -> str:
    return comparison_key(row.text)


def _hash(text: str) -> bytes:
    return hashlib.sha256(f"{SEED}/{text}".encode()).digest()
