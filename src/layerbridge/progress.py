"""Progress of long work, on stderr: a bar where somebody looks, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

# Seconds between lines where stderr is no terminal.
QUIET_INTERVAL = 20.0


class Meter:
    """One piece of work with a known size."""

    def __init__(self, label: str, bar: Progress | None) -> None:
        self.label = label
        self._bar = bar
        self._task = bar.add_task(label, total=None, note="") if bar is not None else None
        self._told = time.monotonic()

    def update(self, done: int, total: int, note: str = "") -> None:
        """Says how far it is; ``note`` is a short remark, a loss for example."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, note=note)
        elif done == total or time.monotonic() - self._told > QUIET_INTERVAL:
            self._told = time.monotonic()
            remark = f"  {note}" if note else ""
            print(f"{self.label}: {done}/{total}{remark}", file=sys.stderr, flush=True)  # noqa: T201

    def by_language(self, language: str, done: int, total: int) -> None:
        """The same, as evaluations tell it."""
        self.update(done, total, language)


@contextmanager
def meter(label: str) -> Iterator[Meter]:
    """A meter for as long as the work lasts."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Meter(label, None)
        return
    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=console) as bar:
        yield Meter(label, bar)


def say(text: str) -> None:
    """One line of talk, on stderr, so that results alone are on stdout."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
