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


def memory_of(pid: int) -> dict[str, int]:
    """Bytes of a process and of all that it started, by name and number."""
    return {f"{name_of(one)} {one}": resident(one) for one in (pid, *children(pid))}


def name_of(pid: int) -> str:
    """As the process calls itself."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return "gone"


def engine_of(pid: int) -> int:
    """The process of vLLM's core; whichever is the largest if none is called so."""
    found = children(pid)
    for child in found:
        with suppress(OSError):
            if b"EngineCore" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return max(found, key=resident)


def flatness(samples: Sequence[tuple[float, dict[str, int]]], seconds: float) -> dict[str, Any]:
    """Medians of equal windows after the warm-up; the last over the first tells of a leak."""
    begin = WARM_UP * seconds
    width = (seconds - begin) / WINDOWS

    def medians(sizes: Sequence[tuple[float, int]]) -> list[float]:
        windows = [
            [size for at, size in sizes if begin + n * width <= at < begin + (n + 1) * width]
            for n in range(WINDOWS)
        ]
        return [statistics.median(window) for window in windows if window]

    totals = [(at, sum(found.values())) for at, found in samples]
    all_of_them = medians(totals)
    growth = all_of_them[-1] / all_of_them[0] - 1 if all_of_them and all_of_them[0] else None
    names = dict.fromkeys(name for _, found in samples for name in found)
    own = {name: [(at, found[name]) for at, found in samples if name in found] for name in names}
    # Not those that came and went.
    lasting = {name: sizes for name, sizes in own.items() if len(sizes) > len(samples) / 2}
    return {
        "growth": growth,
        "flat": growth is not None and growth <= FLAT,
        "windows_bytes": all_of_them,
        "windows_bytes_by_process": {name: medians(sizes) for name, sizes in lasting.items()},
        "samples": len(samples),
        "begin_bytes": totals[0][1] if totals else None,
        "most_bytes": max((size for _, size in totals), default=None),
    }
