"""The answers of one method in one language: right or wrong, by seed and row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """A matrix of ones and zeros.

    Attributes:
        rows: keys of the rows, sorted, so that the order of a file changes no number.
        right: [seeds, rows].
    """

    rows: tuple[str, ...]
    right: NDArray

    @classmethod
    def of(cls, seeds: Sequence[Mapping[str, bool]]) -> Answers:
        """From one mapping of row → right or wrong for each seed, all of the same rows."""
        import numpy as np

        rows = tuple(sorted(seeds[0]))
        return cls(rows, np.array([[seed[row] for row in rows] for seed in seeds], dtype=float))

    @property
    def by_row(self) -> NDArray:
        """Share of the seeds that are right on each row."""
        return self.right.mean(axis=0)

    @property
    def by_seed(self) -> NDArray:
        """Accuracy of each seed."""
        return self.right.mean(axis=1)
