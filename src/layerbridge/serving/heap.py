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

# While there is work, and once it has ended.
EVERY_S = 10.0
REST_S = 1.0

# oneDNN keeps what it compiled for the last 1 024 shapes, 0.2 MB each, and under mixed load every
# batch has shapes of its own. It reads this before its first product. Set unless the user has.
KERNEL_CACHE, KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256"


def trim() -> None:
    """What is free on this process's heap goes back to the system: 3 to 8 ms with 1 GB."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class Heap:
    """A heap, tidied now and then.

    Args:
        tidy: tidies it; ``trim`` where it is this process's and the caller can wait.
        every_s: how long to leave it alone after each time, while there is work.
        rest_s: how long to wait when the work has ended.
    """

    def __init__(
        self,
        tidy: Callable[[], object] = trim,
        *,
        every_s: float = EVERY_S,
        rest_s: float = REST_S,
    ) -> None:
        self._do = tidy
        self._every_s = every_s
        self._rest_s = rest_s
        self._tidied = time.monotonic()
        self._worked: float | None = None  # when, since it was tidied

    def worked(self) -> None:
        """To be called after each piece of work: tidies if it is time."""
        now = time.monotonic()
        self._worked = now
        if now - self._tidied >= self._every_s:
            self._tidy()

    def rested(self) -> float | None:
        """To be called when there is nothing to do: tidies if it is time.

        Returns:
            Seconds until it should be called again; None if there is no more to do for it.
        """
        if self._worked is None:
            return None
        left = self._worked + self._rest_s - time.monotonic()
        if left > 0:
            return left
        self._tidy()
        return None

    def _tidy(self) -> None:
        self._do()
        self._tidied = time.monotonic()
        self._worked = None


class WorkerHeap:
    """What vLLM adds to its workers, so that they can be asked to tidy theirs."""

    def tidy_heap(self) -> None:
        """``trim``, in the worker's process."""
        trim()
