"""Heap: returns freed memory to the system.

Under mixed CPU load glibc keeps free blocks that lie between used ones, so a server's memory
creeps up although nothing leaks. Other C libraries have no ``malloc_trim`` and are left alone.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress

BUSY_INTERVAL_S = 10.0
IDLE_DELAY_S = 1.0

# oneDNN caches compiled kernels for the last 1 024 shapes, 0.2 MB each, and under mixed load every
# batch has new shapes. It reads this before its first product. A value the user set is kept.
KERNEL_CACHE, KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256"


def trim() -> None:
    """Returns this process's free heap memory to the system: 3 to 8 ms with 1 GB."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class HeapTrimmer:
    """Decides when to trim: every ``interval_s`` under load, and ``idle_delay_s`` after it ends."""

    def __init__(
        self,
        trim: Callable[[], object] = trim,
        *,
        interval_s: float = BUSY_INTERVAL_S,
        idle_delay_s: float = IDLE_DELAY_S,
    ) -> None:
        self._trim = trim
        self._interval_s = interval_s
        self._idle_delay_s = idle_delay_s
        self._trimmed_at = time.monotonic()
        self._worked_at: float | None = None  # since the last trim

    def after_work(self) -> None:
        """Trims if it is time; call it after each piece of work."""
        now = self._worked_at = time.monotonic()
        if now - self._trimmed_at >= self._interval_s:
            self._trim_now()

    def when_idle(self) -> float | None:
        """Trims if it is time; call it when there is nothing to do.

        Returns the seconds until the next call is due; None if there is nothing left to trim.
        """
        if self._worked_at is None:
            return None
        left = self._worked_at + self._idle_delay_s - time.monotonic()
        if left > 0:
            return left
        self._trim_now()
        return None

    def _trim_now(self) -> None:
        self._trim()
        self._trimmed_at = time.monotonic()
        self._worked_at = None


class WorkerHeap:
    """Mixed into vLLM's workers (``worker_extension_cls``) so that they can trim their heaps."""

    def trim_heap(self) -> None:
        """Trims the worker process's heap."""
        trim()
