"""How long a run is if nobody says."""

from __future__ import annotations

import math

# Below this many steps, some seeds do not take off.
FEWEST_STEPS = 100


def steps(rows: int) -> int:
    """Returns the number of optimizer steps that so many training rows call for.

    It grows with the square root: ten times the rows get about three times the steps.
    """
    return max(FEWEST_STEPS, 10 * round(0.35 * math.sqrt(rows)))
