"""Precomputed hidden states: the encoder reads all texts of a run once, into a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.filesize import decimal

from layerbridge.errors import OutputError
from layerbridge.models.encoder import Encoder
from layerbridge.models.length_grouping import cut
from layerbridge.models.state_cache import MappedStateCache
from layerbridge.progress import meter, say
from layerbridge.training.output import nearest_existing

# Encoder tokens in one batch, pads included.
TOKENS_PER_BATCH = 8192


class StatePrecomputer:
    """Plans the file of states; nothing is read or written until ``cached``.

    Args:
        encoder: computes the states.
        texts: duplicates are read once.
        folder: of the file; may not exist yet.
        layers: indices of the layers to keep.

    Attributes:
        bytes: size of the file.

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
        # A text without tokens is read as one token.
        self.lengths = [
            min(max(1, length), encoder.max_text_tokens) for length in encoder.lengths(self.texts)
        ]
        self.bytes = sum(self.lengths) * len(layers) * encoder.width * encoder.model.dtype.itemsize
        disk = nearest_existing(folder)
        free = shutil.disk_usage(disk).free
        if self.bytes > free:
            hint = "leave --cache-states out"
            if len(layers) > 1:
                hint += f"; fusion 'last' would keep one layer of {encoder.num_layers}"
            raise OutputError(
                f"the states of {len(self.texts)} texts take {decimal(self.bytes)}, and "
                f"{str(disk)!r} has {decimal(free)} free",
                hint=hint,
            )

    @contextmanager
    def cached(self) -> Iterator[MappedStateCache]:
        """Computes all states; inside the context the encoder takes them from the file.

        Raises:
            OutputError: the file cannot be written.
        """
        say(f"states of {len(self.texts)} texts: {decimal(self.bytes)} in {self.folder}")
        with ExitStack() as stack:
            stack.callback(setattr, self.encoder, "cache", self.encoder.cache)
            try:
                self.encoder.cache = cache = MappedStateCache(self.folder, layers=self.layers)
                stack.callback(cache.close)
                self._read()
            except OSError as error:
                raise OutputError(
                    f"the states of {len(self.texts)} texts cannot be written to "
                    f"{str(self.folder)!r} ({error.strerror or error})",
                    hint="leave --cache-states out",
                ) from None
            yield cache

    def _read(self) -> None:
        longest_first = sorted(range(len(self.texts)), key=lambda index: -self.lengths[index])
        done = 0
        with meter("encoding texts") as bar:
            for batch in cut(longest_first, self.lengths, TOKENS_PER_BATCH):
                self.encoder.remember([self.texts[index] for index in batch])
                done += len(batch)
                bar.update(done, len(self.texts))
