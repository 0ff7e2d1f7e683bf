"""Ctrl-C and SIGTERM while a run trains: its state is saved first, and then it ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from layerbridge.progress import is_one_of_several, say

if TYPE_CHECKING:
    from transformers import TrainerState

# A terminal and a launcher such as torchrun both deliver one Ctrl-C.
_SAME = 0.5
# Others are the calling program's own handlers, and stay.
_DEFAULTS = (signal.default_int_handler, signal.SIG_DFL)


class Interrupted(KeyboardInterrupt):
    """A run was interrupted, and can continue.

    Args:
        message: one line, with what was saved and how to continue.
        number: of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class Interruption:
    """Notes Ctrl-C and SIGTERM while it is entered, instead of ending the program.

    A second signal raises ``KeyboardInterrupt`` at once. Outside the main thread, where Python
    has no signals, it notes none.

    Args:
        resume: what to do to continue, for the message.
    """

    def __init__(self, resume: str) -> None:
        self.number: int = 0
        self._resume = resume
        self._process = os.getpid()
        self._first = 0.0
        self._step = -1
        self._is_complete = False
        self._is_said = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        with suppress(ValueError):  # not the main thread
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) in _DEFAULTS:
                    self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self.number and kind is None:
            raise Interrupted("interrupted after the last step: the run is complete", self.number)

    def is_due(self, state: TrainerState, accelerator: Any) -> bool:
        """Whether the run ends here: a signal was noted by any of its processes.

        Call it after every step in every process, and once more at the end of an epoch.
        """
        is_again, self._step = self._step == state.global_step, state.global_step
        self._is_complete = state.global_step >= state.max_steps
        if accelerator.num_processes > 1:
            import torch

            noted = torch.tensor(self.number, device=accelerator.device)
            first = int(accelerator.gather(noted.reshape(1)).max())
            if first and not self._is_said:
                self._say()
            if first and not self.number:
                self.number, self._first = first, time.monotonic()
        if not self.number or self._is_complete:
            return False
        # What is done at the end of an epoch would not be made up for by the resumed run.
        return is_again or not float(state.epoch or 0).is_integer()

    def error(self, state: TrainerState, checkpoint: Path) -> Interrupted:
        """Returns what to raise once the checkpoint of the step is written."""
        return Interrupted(
            f"interrupted at step {state.global_step} of {state.max_steps}, saved in "
            f"{checkpoint}; next: {self._resume}",
            self.number,
        )

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A data loader's process, which ends when the run does.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if not self.number:
            self.number, self._first = number, time.monotonic()
            # torchrun sends SIGTERM when another process has ended, and then nothing can be saved:
            # of several processes each waits until all are known to be there.
            if not is_one_of_several():
                self._say()
        elif time.monotonic() - self._first > _SAME:
            raise KeyboardInterrupt

    def _say(self) -> None:
        self._is_said = True
        what = "writing the bridge" if self._is_complete else "saving a checkpoint after this step"
        with suppress(RuntimeError):  # the signal came while something was printed
            say(f"interrupted: {what}; Ctrl-C again ends at once")


@contextmanager
def sigterm_interrupts() -> Iterator[Callable[[], int]]:
    """Within the context SIGTERM raises ``KeyboardInterrupt``, as Ctrl-C does.

    Yields:
        A function that returns the number of the signal that came.
    """
    came = signal.SIGINT

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = signal.Signals(number)
        raise KeyboardInterrupt

    before: Any = None
    with suppress(ValueError):  # not the main thread
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield lambda: came
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
