"""Batches of texts of similar length, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def cut(indices: Iterable[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Splits indices, in their order, into batches of rows × longest length ≤ ``tokens``.

    Args:
        indices: of rows, sorted by length in either direction.
        lengths: of all rows, in tokens.
        tokens: the budget of a batch; a longer row is a batch of its own.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in indices:
        longest = max(longest, lengths[index])
        if batches and (len(batches[-1]) + 1) * longest <= tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
            longest = lengths[index]
    return batches


def by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Returns the indices of ``lengths`` in batches of similar length, the shortest first."""
    indices = sorted(range(len(lengths)), key=lambda index: lengths[index])
    return [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
