"""State caches: the layer states of texts that were read before, in memory or in a file.

The encoder is frozen, so a text need be read once only, however many epochs, bridges or settings
follow. They hold what they are given; who fills them decides what is worth the room.
Legend: L layers, K of them kept, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.models.hidden_states import HiddenStates


class StateCache:
    """Layer states by text, without padding, where the encoder left them."""

    def __init__(self) -> None:
        self._rows: dict[str, Tensor] = {}

    def __contains__(self, text: str) -> bool:
        return text in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def bytes(self) -> int:
        """What it holds, in bytes."""
        return sum(row.nbytes for row in self._rows.values())

    def put(self, text: str, states: Float[Tensor, "L S E"]) -> None:
        """Keeps the states of one text, its real tokens only."""
        self._rows[text] = states

    def batch(self, texts: Sequence[str]) -> HiddenStates:
        """The states of texts that are all here, padded on the right with zeros."""
        return HiddenStates(*_padded([self._rows[text] for text in texts]))


class MappedStateCache:
    """The same in a file, which the system reads into memory as far as there is room.

    One flat file of the states' own bytes, row after row, and an index in memory. The file has no
    name in its folder: it is gone with the cache, and with the process whatever ends it.

    Args:
        folder: where the room is.
        layers: indices of the layers to keep; the others of a batch have a shape and no numbers.
    """

    def __init__(self, folder: Path, *, layers: Sequence[int]) -> None:
        self.layers = list(layers)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._index: dict[str, tuple[int, int]] = {}  # text → its first number, and its S
        self._shape = (0, 0)  # L and E
        self._dtype = torch.float32
        self._end = 0  # how many numbers the file has
        self._numbers: Tensor | None = None  # the file, as far as it was mapped

    def __contains__(self, text: str) -> bool:
        return text in self._index

    def __len__(self) -> int:
        return len(self._index)

    @property
    def bytes(self) -> int:
        """What it holds, in bytes."""
        return self._end * self._dtype.itemsize

    def put(self, text: str, states: Float[Tensor, "L S E"]) -> None:
        """Keeps the states of one text, its real tokens only.

        Raises:
            OSError: the disk is full.
        """
        layers, tokens, width = states.shape
        assert not self._index or (self._shape, self._dtype) == ((layers, width), states.dtype)
        self._shape, self._dtype = (layers, width), states.dtype
        kept = states if len(self.layers) == layers else states[self.layers]
        # As bytes, since numpy has no bfloat16.
        self._file.write(kept.cpu().contiguous().view(torch.uint8).numpy().data)
        self._index[text] = (self._end, tokens)
        self._end += kept.numel()

    def batch(self, texts: Sequence[str]) -> HiddenStates:
        """The states of texts that are all here, on the CPU, padded on the right with zeros."""
        states, mask = _padded([self._row(text) for text in texts])
        layers, _ = self._shape
        if len(self.layers) == layers:
            return HiddenStates(states, mask)
        # Whoever reads a layer that is not kept gets an error, and no zeros.
        every: list[Tensor] = [torch.empty_like(states[0], device="meta")] * layers
        for layer, state in zip(self.layers, states, strict=True):
            every[layer] = state
        return HiddenStates(every, mask)

    def close(self) -> None:
        """Gives the room on the disk back; nothing can be read any more."""
        self._index.clear()
        self._numbers = None
        self._file.close()

    def _row(self, text: str) -> Float[Tensor, "K S E"]:
        start, tokens = self._index[text]
        if self._numbers is None or len(self._numbers) < self._end:
            self._file.flush()
            # Shared, as mmap does unless told otherwise: a private mapping that could be written
            # counts as memory, and one larger than the machine's would be refused.
            whole = mmap.mmap(self._file.fileno(), self.bytes)
            self._numbers = torch.frombuffer(whole, dtype=self._dtype)
        shape = (len(self.layers), tokens, self._shape[1])
        return self._numbers[start : start + shape[0] * shape[1] * shape[2]].view(shape)


def _padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows [K, S, E] as states [K, B, S, E] and their mask [B, S]."""
    layers, _, width = rows[0].shape
    longest = max(row.shape[1] for row in rows)
    states = rows[0].new_zeros(layers, len(rows), longest, width)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool, device=states.device)
    for index, row in enumerate(rows):
        states[:, index, : row.shape[1]] = row
        mask[index, : row.shape[1]] = True
    return states, mask
