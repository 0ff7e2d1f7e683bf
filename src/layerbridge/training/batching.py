"""Batching: which rows are read together, and in which order, by their lengths alone.

An order is decided by the seed and the epoch and by nothing else: a run resumed in the middle of
an epoch goes on with the rest of the very same one. It knows lengths, not rows, texts or models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from layerbridge.models.length_grouping import cut


class GroupedSampler(LengthGroupedSampler):
    """Rows grouped by length, as transformers does it, in an order of the seed and the epoch.

    Args:
        batch_size: rows of one step.
        lengths: of all rows.
        seed: of the orders.
    """

    def __init__(self, batch_size: int, *, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(_epoch_seed(self.seed, self.epoch))
        return super().__iter__()


class TokenBatches(Sampler[list[int]]):
    """Batches of rows of about one length, filled up to a number of tokens, pads included.

    Which of the rows of equal length go together, and the order of the batches, is drawn anew each
    epoch. Where one batch ends and the next begins follows from the sorted lengths, so that every
    epoch has as many batches as any other: the Trainer counts them once.

    Args:
        lengths: of all rows.
        tokens: rows × longest length of a batch at most; a longer row has a batch to itself.
        seed: of the orders.
    """

    def __init__(self, lengths: Sequence[int], tokens: int, *, seed: int) -> None:
        self.lengths = lengths
        self.tokens = tokens
        self.seed = seed
        self.epoch = 0
        self._count = len(self._batches(range(len(lengths))))

    @property
    def sampler(self) -> TokenBatches:
        """Itself: behind a sampler that skips batches, this is whom accelerate tells the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator()
        generator.manual_seed(_epoch_seed(self.seed, self.epoch))
        shuffled = torch.randperm(len(self.lengths), generator=generator).tolist()
        batches = self._batches(shuffled)
        # The longest rows first: a batch that does not fit the memory is met at once.
        rest = torch.randperm(len(batches) - 1, generator=generator).tolist()
        yield batches[0]
        for place in rest:
            yield batches[1 + place]

    def _batches(self, places: Iterable[int]) -> list[list[int]]:
        longest_first = sorted(places, key=lambda place: -self.lengths[place])  # stable
        return cut(longest_first, self.lengths, self.tokens)


def _epoch_seed(seed: int, epoch: int) -> int:
    return (seed << 20) + epoch
