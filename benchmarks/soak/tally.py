"""Counts of replies and failures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

LISTED_FAILURES = 20


class DrainingError(Exception):
    """The server refused a request because it is shutting down, as it should."""


class LeftError(Exception):
    """The client disconnected on purpose."""


class WrongError(Exception):
    """A reply is wrong."""


@dataclass
class Tally:
    """Counts of replies by kind and status, and the first failures."""

    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    tokens: int = 0

    def fail(self, what: str, detail: str) -> None:
        """Counts a failure."""
        self.counts[what] += 1
        if len(self.failures) < LISTED_FAILURES:
            self.failures.append(f"{what}: {detail}"[:600])
