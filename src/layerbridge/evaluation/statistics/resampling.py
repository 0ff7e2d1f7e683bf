"""Bootstrap samples of the test rows of several languages, and errors of few seeds or languages.

Rows that languages share (a test set translated row by row) are drawn jointly, since a hard row is
hard in all its languages; languages that share none are independent.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from layerbridge.evaluation.statistics.seeds import Spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DRAWS = 10_000

# Counts in one block of draws: 32 MB, whatever the number of rows.
_BLOCK = 4_000_000


def draw_means(
    rows: Mapping[str, Mapping[str, float]], draws: int = DRAWS, seed: int = 0
) -> dict[str, NDArray]:
    """Each language's mean over rows drawn with replacement.

    Languages that share rows get the same ones in the same draw. Where they share only some, the
    rows of all of them are drawn, and a language's mean is over those it has. The order of
    languages and rows changes no number.

    Args:
        rows: language → key of the row → value.
        draws: bootstrap samples.
        seed: of the generator.

    Returns:
        Language → [draws].
    """
    import numpy as np

    drawn: dict[str, NDArray] = {}
    for codes in _groups(rows):
        keys = sorted(set().union(*(rows[code] for code in codes)))
        index = {key: i for i, key in enumerate(keys)}
        own = {code: sorted(rows[code]) for code in codes}
        columns = {code: np.array([index[key] for key in own[code]]) for code in codes}
        values = {code: np.array([rows[code][key] for key in own[code]], float) for code in codes}
        blocks: dict[str, list[NDArray]] = {code: [] for code in codes}
        for counts in _counts(generator(seed, *codes), len(keys), draws):
            for code in codes:
                own_counts = counts[:, columns[code]]
                drawn_rows = own_counts.sum(axis=1)
                sums = own_counts @ values[code]
                # A language of very few rows among many may be left out of a draw altogether.
                empty = drawn_rows == 0
                sums[empty], drawn_rows[empty] = values[code].mean(), 1
                blocks[code].append(sums / drawn_rows)
        drawn.update({code: np.concatenate(parts) for code, parts in blocks.items()})
    return drawn


def draw_error(spread: Spread, draws: int, seed: int, name: str) -> NDArray:
    """Errors of a mean over few values: evenly spaced quantiles of its t, in random order."""
    import numpy as np
    from scipy.special import stdtrit

    quantiles = stdtrit(spread.freedom, (np.arange(draws) + 0.5) / draws)
    return generator(seed, name).permutation(quantiles) * spread.error


def percentile_interval(drawn: NDArray, level: float = 0.95) -> tuple[float, float]:
    """The middle ``level`` of the draws."""
    import numpy as np

    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def p_value(drawn: NDArray) -> float:
    """Two-sided, against 0: twice the share of draws in the smaller tail, one added to each."""
    zero = 1e-12  # what is left of 0 after adding floating-point numbers
    tail = min(int((drawn <= zero).sum()), int((drawn >= -zero).sum()))
    return min(1.0, 2 * (tail + 1) / (len(drawn) + 1))


def generator(seed: int, *names: str) -> np.random.Generator:
    """A separate generator for each set of names, independent of earlier draws."""
    import numpy as np

    return np.random.default_rng([seed, zlib.crc32("\n".join(names).encode())])


def _groups(rows: Mapping[str, Mapping[str, float]]) -> list[tuple[str, ...]]:
    """The languages, sorted, in groups that share no rows with each other."""
    groups: list[tuple[tuple[str, ...], set[str]]] = []
    for code in sorted(rows):
        codes: tuple[str, ...] = (code,)
        keys = set(rows[code])
        for group in [group for group in groups if not keys.isdisjoint(group[1])]:
            groups.remove(group)
            codes, keys = group[0] + codes, keys | group[1]
        groups.append((codes, keys))
    return [tuple(sorted(codes)) for codes, _ in groups]


def _counts(random: np.random.Generator, rows: int, draws: int) -> Iterator[NDArray]:
    """How often each row is in each draw, in blocks of [draws, rows]."""
    import numpy as np

    size = max(1, _BLOCK // rows)
    for start in range(0, draws, size):
        block = min(size, draws - start)
        drawn = random.integers(0, rows, size=(block, rows))
        drawn += rows * np.arange(block)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=block * rows)
        yield counts.reshape(block, rows).astype(float)
