"""What a user sees while a model is pulled: one line a phase, on stderr and never on stdout.

On a terminal each phase is a live bar; elsewhere (logs, pipes) its name is written once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Phases:
    """The display of one pull; use it as a context."""

    def __init__(self, model: str) -> None:
        self.model = model
        # The stream is bound here, so that a converter may silence sys.stderr without hiding this.
        self.console = Console(file=sys.stderr, highlight=False)
        self.progress: Progress | None = None
        if self.console.is_terminal:
            self.progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                console=self.console,
                redirect_stdout=False,
                redirect_stderr=False,
            )

    def __enter__(self) -> Phases:
        if self.progress is not None:
            self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.progress is not None:
            self.progress.stop()

    def note(self, text: str) -> None:
        """Write one line."""
        self.console.print(f"zoo: {self.model}: {text}", markup=False, soft_wrap=True)

    @contextmanager
    def phase(self, text: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """One phase over ``total`` bytes, if known; yields a function to tell the bytes done."""
        if self.progress is None:
            self.note(text)
            yield lambda done: None
            return
        progress = self.progress
        task = progress.add_task(f"zoo: {self.model}: {text}", total=total)
        yield lambda done: progress.update(task, completed=done)
        progress.update(task, total=total or 1, completed=total or 1)
