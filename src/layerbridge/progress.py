"""Progress of long work, on stderr: a bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Seconds between lines if stderr is not a terminal.
QUIET_INTERVAL = 20.0


class Meter:
    """The progress of one piece of work."""

    def __init__(self, label: str, bar: Progress | None) -> None:
        self.label = label
        self._bar = bar
        self._task = bar.add_task(label, total=None, note="") if bar is not None else None
        self._last_line = time.monotonic()

    def update(self, done: int, total: int, note: str = "") -> None:
        """Reports progress; ``note`` is a short remark such as the loss."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, note=note)
        elif done == total or time.monotonic() - self._last_line > QUIET_INTERVAL:
            self._last_line = time.monotonic()
            say(f"{self.label}: {done}/{total}" + (f"  {note}" if note else ""))

    def by_language(self, language: str, done: int, total: int) -> None:
        """Reports progress in the form of an evaluation's callback."""
        self.update(done, total, language)


@contextmanager
def meter(label: str) -> Iterator[Meter]:
    """Shows the progress of work that counts items, until the block ends."""
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


@contextmanager
def phase(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Shows one phase of work: its label once, or a bar over ``total`` bytes on a terminal.

    Yields:
        A function that takes the number of bytes done.
    """
    # Bound to the stream of now, so code in the block can silence sys.stderr without hiding this.
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        say(label)
        yield lambda done: None
        return
    columns = [TextColumn("{task.description}", markup=False), BarColumn()]
    columns += [TaskProgressColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)
        bar.update(task, total=total or 1, completed=total or 1)


@cache
def say_once(text: str) -> None:
    """Prints one line to stderr, unless this process has printed it before."""
    say(text)


def say(text: str) -> None:
    """Prints one line to stderr, so that stdout has only results."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
