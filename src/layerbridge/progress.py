"""Progress of long work, on stderr: a bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
# Seconds that other processes leave the first one to report an error of all.
SPEAKS_FIRST = 10.0


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
    if not console.is_terminal or not is_first_process():
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
    if is_first_process():
        print(text, file=sys.stderr, flush=True)  # noqa: T201


def is_first_process() -> bool:
    """Whether this is the only process of a run, or the first of those that torchrun started."""
    return "LOCAL_RANK" not in os.environ or os.environ.get("RANK", "0") == "0"


def is_one_of_several() -> bool:
    """Whether this is one of several processes that torchrun started."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def speaks_for_all() -> bool:
    """Whether this process is to say what has ended it: of several, the first that ends does.

    The error of one ends all others, whose errors are then about that, and many errors are the same
    in all. Returns after a while, or never, in a process that waits for the first to speak.
    """
    if not is_one_of_several():
        return True
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        with suppress(Exception):  # the store has ended with the process that it was in
            store = distributed.distributed_c10d._get_default_store()
            return int(store.add("layerbridge/ended", 1)) == 1
    elif not is_first_process():
        time.sleep(SPEAKS_FIRST)  # torchrun ends this process meanwhile, if the first has ended
    return True
