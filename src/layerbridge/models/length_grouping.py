"""Which texts are read together, by their lengths alone, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def cut(places: Iterable[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Places in batches, in their order, as many in one as rows × longest length ≤ ``tokens``.

    Args:
        places: of rows, the longest first or the shortest first.
        lengths: of all rows.
        tokens: the budget of a batch; a row that is longer has a batch to itself.
    """
    batches: list[list[int]] = []
    longest = 0
    for place in places:
        longest = max(longest, lengths[place])
        if batches and (len(batches[-1]) + 1) * longest <= tokens:
            batches[-1].append(place)
        else:
            batches.append([place])
            longest = lengths[place]
    return batches


def by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Places in batches of about one length, the shortest first: little of them is padding."""
    places = sorted(range(len(lengths)), key=lambda place: lengths[place])
    return [places[start : start + batch_size] for start in range(0, len(places), batch_size)]
