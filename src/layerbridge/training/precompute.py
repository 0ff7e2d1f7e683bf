"""Precomputed hidden states: the encoder reads all texts of a run once, into a file.

Processes on one machine share the work: each reads its part of the texts into a file of its own,
and all take states from all files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from accelerate import PartialState
from rich.filesize import decimal

from layerbridge.errors import OutputError
from layerbridge.models.encoder import Encoder
from layerbridge.models.length_grouping import cut
from layerbridge.models.state_cache import MappedStateCache
from layerbridge.progress import meter, say
from layerbridge.tasks.stored_rows import StoredRows, Texts, sample
from layerbridge.training.node import Node
from layerbridge.training.output import nearest_existing

# Encoder tokens in one batch, pads included.
TOKENS_PER_BATCH = 8192
# Texts whose places in the file fit in memory: some 300 bytes each.
MOST_TEXTS = 1_500_000
# Texts whose tokens are counted for an estimate, and at a time.
SAMPLED, PART = 2000, 10_000


class StatePrecomputer:
    """Plans the file of states; nothing is read or written until ``cached``.

    Args:
        encoder: computes the states.
        texts: duplicates are read once. Of ``Texts`` of rows on the disk, no copy is made.
        folder: of the file; may not exist yet.
        layers: indices of the layers to keep.

    Attributes:
        bytes: size of the file.

    Raises:
        OutputError: the disk has no room, or memory none for the places of the texts.
    """

    def __init__(
        self, encoder: Encoder, texts: Sequence[str], folder: Path, *, layers: Sequence[int]
    ) -> None:
        self.encoder = encoder
        self.folder = folder
        self.layers = layers
        self.texts: Sequence[str]
        if isinstance(texts, Texts) and isinstance(texts.rows, StoredRows):
            self.texts = self._different(texts.rows)
            some = self._lengths(Texts(sample(texts.rows, SAMPLED)))
            # Before all are counted, which takes long.
            self._check_room(round(sum(some) / len(some) * len(self.texts)))
            with meter("counting tokens") as bar:
                self.lengths = []
                for start in range(0, len(self.texts), PART):
                    self.lengths += self._lengths(self.texts[start : start + PART])
                    bar.update(len(self.lengths), len(self.texts))
        else:
            self.texts = list(dict.fromkeys(texts))
            self.lengths = self._lengths(self.texts)
        self.bytes = self._check_room(sum(self.lengths))

    def _different(self, rows: StoredRows) -> Texts:
        hashes = np.fromiter((hash(row.text) for row in rows), np.int64, len(rows))
        _, places = np.unique(hashes, return_index=True)
        if len(places) > MOST_TEXTS:
            raise OutputError(
                f"--cache-states keeps the places of {len(places)} texts in memory",
                allowed=f"{MOST_TEXTS} texts",
                hint="leave --cache-states out, or fewer rows (--max-rows)",
            )
        return Texts(rows.select(np.sort(places)))

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        # A text without tokens is read as one token.
        limit = self.encoder.max_text_tokens
        return [min(max(1, length), limit) for length in self.encoder.lengths(texts)]

    def _check_room(self, tokens: int) -> int:
        """Returns the bytes of the states of so many tokens."""
        encoder = self.encoder
        size = tokens * len(self.layers) * encoder.width * encoder.model.dtype.itemsize
        disk = nearest_existing(self.folder)
        free = shutil.disk_usage(disk).free
        if size > free:
            hint = "leave --cache-states out"
            if len(self.layers) > 1:
                hint += f"; fusion 'last' would keep one layer of {encoder.num_layers}"
            raise OutputError(
                f"the states of {len(self.texts)} texts take {decimal(size)}, and "
                f"{str(disk)!r} has {decimal(free)} free",
                hint=hint,
            )
        return size

    @contextmanager
    def cached(self) -> Iterator[MappedStateCache]:
        """Computes all states; inside the context the encoder takes them from the file.

        Raises:
            OutputError: the file cannot be written.
        """
        node = Node.here()
        say(f"states of {len(self.texts)} texts: {decimal(self.bytes)} in {self.folder}")
        with ExitStack() as stack:
            stack.callback(setattr, self.encoder, "cache", self.encoder.cache)
            try:
                own, others = _files(self.folder, node)
                cache = MappedStateCache(self.folder, layers=self.layers, file=own)
                self.encoder.cache = cache
                stack.callback(cache.close)
                shares = self._shares(node.size)
                self._read(shares[node.index])
                if others:
                    layouts = node.gather(cache.layout(self._texts(shares[node.index])))
                    for index, file in others.items():
                        cache.join(file, self._texts(shares[index]), layouts[index])
            except OSError as error:
                raise OutputError(
                    f"the states of {len(self.texts)} texts cannot be written to "
                    f"{str(self.folder)!r} ({error.strerror or error})",
                    hint="leave --cache-states out",
                ) from None
            yield cache

    def _texts(self, batches: Sequence[Sequence[int]]) -> list[str]:
        return [self.texts[index] for batch in batches for index in batch]

    def _shares(self, processes: int) -> list[list[list[int]]]:
        """Returns the batches that each process reads, as numbers of texts."""
        longest_first = sorted(range(len(self.texts)), key=lambda index: -self.lengths[index])
        batches = cut(longest_first, self.lengths, TOKENS_PER_BATCH)
        return [batches[process::processes] for process in range(processes)]

    def _read(self, batches: Sequence[Sequence[int]]) -> None:
        done, total = 0, sum(map(len, batches))
        with meter("encoding texts") as bar:
            for batch in batches:
                self.encoder.remember(self._texts([batch]))
                done += len(batch)
                bar.update(done, total)


def _files(folder: Path, node: Node) -> tuple[BinaryIO | None, dict[int, BinaryIO]]:
    """Returns an empty file for this process, and those of the machine's others by their index.

    No file has a name by then, so that all disappear with their processes. None for a process that
    is alone.
    """
    if node.size == 1:
        return None, {}
    folder.mkdir(parents=True, exist_ok=True)
    handle, own = tempfile.mkstemp(dir=folder)
    names = node.gather(own)
    others: dict[int, BinaryIO] = {
        index: Path(name).open("r+b")  # noqa: SIM115
        for index, name in enumerate(names)
        if index != node.index
    }
    PartialState().wait_for_everyone()
    Path(own).unlink()
    return os.fdopen(handle, "w+b"), others
