"""Heap: gives back to the system what texts of other lengths have left behind.

On a CPU tensors lie on the C library's heap. Under mixed load glibc keeps what is free between what
is not: a server's memory creeps up though nothing leaks. Other C libraries have no such call, and
are left alone.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress

EVERY_S = 10.0


class Heap:
    """The heap of this process, tidied now and then.

    Args:
        every_s: how long to leave it alone after each time.
    """

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._next = time.monotonic() + every_s
        self._trim: Callable[[int], int] | None = None
        with suppress(OSError, AttributeError, TypeError):
            self._trim = ctypes.CDLL(None).malloc_trim

    def tidy(self) -> bool:
        """Tidies it if it is time; whether it was done. It takes some milliseconds."""
        if self._trim is None or time.monotonic() < self._next:
            return False
        self._trim(0)
        self._next = time.monotonic() + self._every_s
        return True
