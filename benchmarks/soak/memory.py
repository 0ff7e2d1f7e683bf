"""The memory of a server and of what it started, as Linux tells it, and whether it grows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

WARM_UP = 0.25  # of the time, in which memory may grow
WINDOWS = 4
FLAT = 0.03


def children(pid: int) -> list[int]:
    """All processes that this one started, and those they did."""
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, tasks.read_text().split()):
                found += [child, *children(child)]
    return found


def resident(pid: int) -> int:
    """Bytes; none if it has gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def memory_of(pid: int) -> int:
    """Bytes of a process and all that it started."""
    return sum(map(resident, (pid, *children(pid))))


def engine_of(pid: int) -> int:
    """The process of vLLM's core; whichever is the largest if none is called so."""
    found = children(pid)
    for child in found:
        with suppress(OSError):
            if b"EngineCore" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return max(found, key=resident)


def flatness(samples: Sequence[tuple[float, int]], seconds: float) -> dict[str, Any]:
    """Medians of equal windows after the warm-up; the last over the first tells of a leak."""
    begin = WARM_UP * seconds
    width = (seconds - begin) / WINDOWS
    windows = [
        [size for at, size in samples if begin + n * width <= at < begin + (n + 1) * width]
        for n in range(WINDOWS)
    ]
    medians = [statistics.median(sizes) for sizes in windows if sizes]
    growth = medians[-1] / medians[0] - 1 if medians and medians[0] else None
    return {
        "growth": growth,
        "flat": growth is not None and growth <= FLAT,
        "windows_bytes": medians,
        "samples": len(samples),
        "begin_bytes": samples[0][1] if samples else None,
        "most_bytes": max((size for _, size in samples), default=None),
    }
