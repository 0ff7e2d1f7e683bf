"""Batching by length: which rows share a batch, and in which order.

The order depends on the seed and the epoch alone, so that a run resumed in the middle of an epoch
continues with the rest of the same epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler

# A group of this many batches is sorted by length, or a quarter of the rows if they are few.
GROUP = 50

# The number of a row that adds nothing to the loss.
BLANK = -1


class GroupedSampler(LengthGroupedSampler):
    """transformers' grouping by length, with an order that depends on seed and epoch alone.

    It sorts one group at a time: transformers makes a list of all rows, which takes more memory
    than their lengths.

    Args:
        batch_size: rows per step.
        lengths: of all rows.
        seed: of the order.
    """

    def __init__(self, batch_size: int, *, lengths: Sequence[int] | np.ndarray, seed: int) -> None:
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(_epoch_seed(self.seed, self.epoch))
        lengths = np.asarray(self.lengths)
        order = torch.randperm(len(lengths), generator=self.generator).numpy()
        size = self.batch_size * max(1, min(len(lengths) // (4 * self.batch_size), GROUP))
        starts = range(0, len(order), size)
        longest = [start + int(lengths[order[start : start + size]].argmax()) for start in starts]
        # The longest row of all comes first, and the first group's own takes its place.
        top = int(lengths[order[longest]].argmax()) if longest else 0
        for group, start in enumerate(starts):
            rows = order[start : start + size]
            rows = rows[np.argsort(-lengths[rows], kind="stable")]
            if group in (0, top):
                rows[0] = order[longest[top if group == 0 else 0]]
            yield from rows.tolist()


class TokenBatches(Sampler[list[int]]):
    """Batches of rows of similar length, filled up to a number of tokens, pads included.

    Each epoch shuffles rows of equal length and the order of the batches. The sizes of the batches
    follow from the sorted lengths alone, so that every epoch has the same number of batches: the
    Trainer counts them once.

    Args:
        lengths: of all rows, in tokens.
        tokens: upper limit for rows × longest length; a longer row gets a batch of its own.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, tokens: int, *, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.tokens = tokens
        self.seed = seed
        self.epoch = 0
        longest_first = -np.sort(-self.lengths)
        self._starts = [0]
        while self._starts[-1] < len(lengths):
            longest = max(1, int(longest_first[self._starts[-1]]))
            self._starts.append(min(self._starts[-1] + max(1, tokens // longest), len(lengths)))

    @property
    def sampler(self) -> TokenBatches:
        """Itself: accelerate sets the epoch here when it skips the first batches."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator()
        generator.manual_seed(_epoch_seed(self.seed, self.epoch))
        rows = torch.randperm(len(self.lengths), generator=generator).numpy()
        rows = rows[np.argsort(-self.lengths[rows], kind="stable")]
        # The longest rows first, so that running out of memory happens at once.
        rest = torch.randperm(len(self) - 1, generator=generator).tolist()
        for batch in (0, *(1 + index for index in rest)):
            yield rows[self._starts[batch] : self._starts[batch + 1]].tolist()


class ProcessBatches(BatchSampler):
    """The batches of one of several processes.

    In each step the processes read consecutive batches of what one process would read, so that
    their step is that of one process that accumulates as many batches. accelerate's own way would
    repeat rows until the last batches are full; here a process that is left without a batch reads
    a row that adds nothing.

    Args:
        batches: of all processes.
        processes: how many there are.
        process: which one this is, from 0.
        drop_last: leave out batches that are too few for all processes.
    """

    def __init__(
        self,
        batches: BatchSampler | TokenBatches,
        *,
        processes: int,
        process: int,
        drop_last: bool = False,
    ) -> None:
        self.batch_sampler = batches
        self.sampler: Any = batches.sampler  # where accelerate sets the epoch
        self.processes = processes
        self.process = process
        self.drop_last = drop_last

    def __len__(self) -> int:
        count = len(self.batch_sampler)
        return count // self.processes if self.drop_last else -(-count // self.processes)

    def __iter__(self) -> Iterator[list[int]]:
        batches = iter(self.batch_sampler)
        while step := list(islice(batches, self.processes)):
            if len(step) == self.processes or not self.drop_last:
                yield step[self.process] if self.process < len(step) else [BLANK]


def _epoch_seed(seed: int, epoch: int) -> int:
    return (seed << 20) + epoch
