"""What was seen, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

TOLD_FAILURES = 20


class DrainingError(Exception):
    """The server told that it is about to stop, as it should."""


class LeftError(Exception):
    """This client leaves, as it meant to."""


class WrongError(Exception):
    """A reply is not what it should be."""


@dataclass
class Tally:
    """What was seen."""

    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    tokens: int = 0

    def fail(self, what: str, detail: str) -> None:
        """Counts something that must not be."""
        self.counts[what] += 1
        if len(self.failures) < TOLD_FAILURES:
            self.failures.append(f"{what}: {detail}"[:600])
