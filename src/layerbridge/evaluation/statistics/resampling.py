"""Draws of other test rows for several languages at once, and of the few seeds and languages.

Rows that languages share (a test set translated row by row) are drawn together, since a hard row is
hard in all its languages; languages that share none are drawn apart. Knows keys and numbers only.
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

# Numbers in one block of draws: 32 MB of them, whatever the number of rows.
_BLOCK = 4_000_000


def draw_means(
    rows: Mapping[str, Mapping[str, float]], draws: int = DRAWS, seed: int = 0
) -> dict[str, NDArray]:
    """Each language's mean over rows drawn with replacement.

    Languages that share rows get the same ones in the same draw. Where they share some and not
    all, the rows of all of them are drawn, and a language's mean is over those it has. Neither
    the order of languages nor that of rows changes a number.

    Args:
        rows: language → key of the row → value.
        draws: how many.
        seed: of the generator.

    Returns:
        Language → [draws].
    """
    import numpy as np

    drawn: dict[str, NDArray] = {}
    for codes in _together(rows):
        keys = sorted(set().union(*(rows[code] for code in codes)))
        place = {key: i for i, key in enumerate(keys)}
        wanted, values = {}, {}
        for code in codes:
            own = sorted(rows[code])
            wanted[code] = np.array([place[key] for key in own])
            values[code] = np.array([rows[code][key] for key in own], dtype=float)
        blocks: dict[str, list[NDArray]] = {code: [] for code in codes}
        for counts in _counts(generator(seed, *codes), len(keys), draws):
            for code in codes:
                own_counts = counts[:, wanted[code]]
                drawn_rows = own_counts.sum(axis=1)
                sums = own_counts @ values[code]
                # A language of very few rows among many may be left out of a draw altogether.
                empty = drawn_rows == 0
                sums[empty], drawn_rows[empty] = values[code].mean(), 1
                blocks[code].append(sums / drawn_rows)
        drawn.update({code: np.concatenate(parts) for code, parts in blocks.items()})
    return drawn


def draw_error(spread: Spread, draws: int, seed: int, name: str) -> NDArray:
    """Errors of a mean over a few levels: Student's t of it, evenly drawn, in random order."""
    import numpy as np
    from scipy.special import stdtrit

    even = (np.arange(draws) + 0.5) / draws
    return generator(seed, name).permutation(stdtrit(spread.freedom, even)) * spread.error


def ends(drawn: NDArray, level: float = 0.95) -> tuple[float, float]:
    """The middle ``level`` of the draws."""
    import numpy as np

    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def p_value(drawn: NDArray) -> float:
    """Two-sided, against 0: twice the share of the draws on its thinner side, one added to each."""
    close = 1e-12  # zero, after adding up floating-point numbers
    thinner = min(int((drawn <= close).sum()), int((drawn >= -close).sum()))
    return min(1.0, 2 * (thinner + 1) / (len(drawn) + 1))


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator of its own for each set of names, whatever else is drawn before."""
    import numpy as np

    return np.random.default_rng([seed, zlib.crc32("\n".join(names).encode())])


def _together(rows: Mapping[str, Mapping[str, float]]) -> list[tuple[str, ...]]:
    """The languages in groups: within one, each shares a row with another; sorted."""
    groups: list[tuple[tuple[str, ...], set[str]]] = []
    for code in sorted(rows):
        codes: tuple[str, ...] = (code,)
        keys = set(rows[code])
        apart = []
        for group in groups:
            if keys.isdisjoint(group[1]):
                apart.append(group)
            else:
                codes, keys = group[0] + codes, keys | group[1]
        groups = [*apart, (codes, keys)]
    return [tuple(sorted(codes)) for codes, _ in groups]


def _counts(random: np.random.Generator, rows: int, draws: int) -> Iterator[NDArray]:
    """How often each row is in each draw, [some draws, rows] at a time."""
    import numpy as np

    most = max(1, _BLOCK // rows)
    for start in range(0, draws, most):
        block = min(most, draws - start)
        drawn = random.integers(0, rows, size=(block, rows))
        drawn += rows * np.arange(block)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=block * rows)
        yield counts.reshape(block, rows).astype(float)
