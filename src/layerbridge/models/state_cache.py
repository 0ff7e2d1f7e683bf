"""State caches: the hidden states of texts that were encoded before, in memory or in a file.

The encoder is frozen, so one pass per text serves all epochs, bridges and settings.
Legend: L layers, K of them stored, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.models.hidden_states import HiddenStates


class StateCache:
    """Hidden states by text, without padding, on the encoder's device."""

    def __init__(self) -> None:
        self._rows: dict[str, Tensor] = {}

    def __contains__(self, text: str) -> bool:
        return text in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def bytes(self) -> int:
        """Size of the stored states, in bytes."""
        return sum(row.nbytes for row in self._rows.values())

    def put(self, text: str, states: Float[Tensor, "L S E"]) -> None:
        """Stores the states of one text, without padding."""
        self._rows[text] = states

    def batch(self, texts: Sequence[str]) -> HiddenStates:
        """Returns the states of stored texts, padded on the right with zeros."""
        return HiddenStates(*_padded([self._rows[text] for text in texts]))


class Layout(NamedTuple):
    """Where the states of texts are in a file.

    Attributes:
        places: of each text, its first element and S.
        shape: L and E.
        dtype: of the elements.
        end: elements in the file.
    """

    places: list[tuple[int, int]]
    shape: tuple[int, int]
    dtype: torch.dtype
    end: int


class MappedStateCache:
    """The same in a memory-mapped file, which may be larger than memory.

    The file is the states' own bytes, text after text; the index is in memory. It is unlinked at
    once, so that it disappears with the process, however that ends.

    Args:
        folder: with enough disk space.
        layers: indices of the K layers to store; the others of a batch are on the meta device.
        file: open for reading and writing, instead of one in ``folder``.
    """

    def __init__(
        self, folder: Path, *, layers: Sequence[int], file: BinaryIO | None = None
    ) -> None:
        self.layers = list(layers)
        self._file = tempfile.TemporaryFile(dir=folder) if file is None else file  # noqa: SIM115
        self._others: list[MappedStateCache] = []
        # Digest of the text → (first element, S). The texts themselves may not fit in memory.
        self._index: dict[bytes, tuple[int, int]] = {}
        self._shape = (0, 0)  # L and E
        self._dtype = torch.float32
        self._end = 0  # elements in the file
        self._elements: Tensor | None = None  # the mapped part of the file

    def __contains__(self, text: str) -> bool:
        return _digest(text) in self._index or any(text in other for other in self._others)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def bytes(self) -> int:
        """Size of the stored states, in bytes."""
        return self._end * self._dtype.itemsize

    def layout(self, texts: Sequence[str]) -> Layout:
        """Returns where the states of stored texts are in the file, whose states are all there."""
        self._file.flush()
        return Layout(
            [self._index[_digest(text)] for text in texts], self._shape, self._dtype, self._end
        )

    def join(self, file: BinaryIO, texts: Sequence[str], layout: Layout) -> None:
        """Adds states that another process has written to its own file.

        Args:
            file: of the other process, open for reading and writing.
            texts: whose states are there.
            layout: of these texts in it.
        """
        other = MappedStateCache(Path(), layers=self.layers, file=file)
        other._index = dict(zip(map(_digest, texts), layout.places, strict=True))
        other._shape, other._dtype, other._end = layout.shape, layout.dtype, layout.end
        self._others.append(other)
        if not self._index:
            self._shape, self._dtype = layout.shape, layout.dtype

    def put(self, text: str, states: Float[Tensor, "L S E"]) -> None:
        """Stores the states of one text, without padding.

        Raises:
            OSError: the disk is full.
        """
        layers, tokens, width = states.shape
        assert not self._index or (self._shape, self._dtype) == ((layers, width), states.dtype)
        self._shape, self._dtype = (layers, width), states.dtype
        stored = states if len(self.layers) == layers else states[self.layers]
        # As bytes, since numpy has no bfloat16.
        self._file.write(stored.cpu().contiguous().view(torch.uint8).numpy().data)
        self._index[_digest(text)] = (self._end, tokens)
        self._end += stored.numel()

    def batch(self, texts: Sequence[str]) -> HiddenStates:
        """Returns the states of stored texts on the CPU, padded on the right with zeros."""
        states, mask = _padded([self._row(text) for text in texts])
        layers, _ = self._shape
        if len(self.layers) == layers:
            return HiddenStates(states, mask)
        # Reading a layer that is not stored is an error, not zeros.
        all_layers: list[Tensor] = [torch.empty_like(states[0], device="meta")] * layers
        for layer, state in zip(self.layers, states, strict=True):
            all_layers[layer] = state
        return HiddenStates(all_layers, mask)

    def close(self) -> None:
        """Frees the disk space; the cache cannot be used any more."""
        self._index.clear()
        self._elements = None
        self._file.close()
        for other in self._others:
            other.close()

    def _row(self, text: str) -> Float[Tensor, "K S E"]:
        for other in self._others:
            if text in other:
                return other._row(text)
        start, tokens = self._index[_digest(text)]
        if self._elements is None or len(self._elements) < self._end:
            self._file.flush()
            # A shared mapping, mmap's default: a private writable one counts as memory, and would
            # be refused if larger than that.
            mapping = mmap.mmap(self._file.fileno(), self.bytes)
            self._elements = torch.frombuffer(mapping, dtype=self._dtype)
        shape = torch.Size([len(self.layers), tokens, self._shape[1]])
        return self._elements[start : start + shape.numel()].view(shape)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns rows [K, S, E] as states [K, B, S, E], and their mask [B, S]."""
    layers, _, width = rows[0].shape
    longest = max(row.shape[1] for row in rows)
    states = rows[0].new_zeros(layers, len(rows), longest, width)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool, device=states.device)
    for index, row in enumerate(rows):
        states[:, index, : row.shape[1]] = row
        mask[index, : row.shape[1]] = True
    return states, mask
