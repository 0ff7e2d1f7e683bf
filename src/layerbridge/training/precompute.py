"""Reading ahead: the encoder's states of all texts of a run, read once and kept in a file.

It knows an encoder, texts and a folder; not what is trained on them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from layerbridge.errors import OutputError
from layerbridge.models.encoder import Encoder
from layerbridge.models.length_grouping import cut
from layerbridge.models.state_cache import MappedStateCache
from layerbridge.progress import meter, say

# Tokens that the encoder reads at a time, pads included.
TOKENS_AT_A_TIME = 8192


class StatePrecomputer:
    """What there is to read, and whether there is room for it. Nothing is read or written yet.

    Args:
        encoder: whose states they are.
        texts: each is read once, however often it is in here.
        folder: where the states go, or will be once it is made.
        layers: indices of the layers to keep.

    Raises:
        OutputError: the disk has no room.
    """

    def __init__(
        self, encoder: Encoder, texts: Sequence[str], folder: Path, *, layers: Sequence[int]
    ) -> None:
        self.encoder = encoder
        self.folder = folder
        self.layers = layers
        self.texts = list(dict.fromkeys(texts))
        tokenized = encoder.tokenizer(
            self.texts, truncation=True, max_length=encoder.max_text_tokens
        )["input_ids"]
        # A text of no tokens is read as one.
        self.lengths = [max(1, len(ids)) for ids in tokenized]
        number = encoder.model.dtype.itemsize
        self.bytes = sum(self.lengths) * len(layers) * encoder.width * number
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        free = shutil.disk_usage(there).free
        if self.bytes > free:
            hint = "leave --cache-states out"
            if len(layers) > 1:
                hint += f"; fusion 'last' would keep one layer of {encoder.num_layers}"
            raise OutputError(
                f"the states of {len(self.texts)} texts take {_size(self.bytes)}, and "
                f"{str(there)!r} has {_size(free)} free",
                hint=hint,
            )

    @contextmanager
    def cached(self) -> Iterator[MappedStateCache]:
        """Reads them all; within, the encoder takes them from the file, which is gone afterwards.

        Raises:
            OutputError: the file cannot be written after all.
        """
        say(f"states of {len(self.texts)} texts: {_size(self.bytes)} in {self.folder}")
        before = self.encoder.cache
        try:
            self.encoder.cache = cache = MappedStateCache(self.folder, layers=self.layers)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            try:
                self._read()
            except OSError as error:
                raise self._unwritable(error) from None
            yield cache
        finally:
            self.encoder.cache = before
            cache.close()

    def _read(self) -> None:
        places = sorted(range(len(self.texts)), key=lambda place: -self.lengths[place])
        done = 0
        with meter("reading texts") as bar:
            for batch in cut(places, self.lengths, TOKENS_AT_A_TIME):
                self.encoder.remember([self.texts[place] for place in batch])
                done += len(batch)
                bar.update(done, len(places))

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"the states of {len(self.texts)} texts cannot be written into {str(self.folder)!r} "
            f"({error.strerror or error})",
            hint="leave --cache-states out",
        )


def _size(count: int) -> str:
    """Bytes as people read them: ``42.3 GB``."""
    unit, name = (1e9, "GB") if count >= 1e9 else (1e6, "MB")
    return f"{count / unit:.1f} {name}"
