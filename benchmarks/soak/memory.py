"""Memory of a server and its child processes, as Linux reports it, and whether it grows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

# Fractions of the time after which the load pauses. Memory may grow until the first pause. The last
# pause is at the end.
RESTS = (0.25, 0.625)
WINDOWS = 4
FLAT = 0.03


def children(pid: int) -> list[int]:
    """Returns all child processes, theirs included."""
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, tasks.read_text().split()):
                found += [child, *children(child)]
    return found


def resident(pid: int) -> int:
    """Returns the resident bytes; 0 if the process has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def memory_of(pid: int) -> dict[str, int]:
    """Returns the bytes of a process and its children, by name and number."""
    return {f"{name_of(one)} {one}": resident(one) for one in (pid, *children(pid))}


def name_of(pid: int) -> str:
    """Returns the name of a process."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return "gone"


def engine_of(pid: int) -> int:
    """Returns vLLM's core process, or the largest child process if there is none."""
    found = children(pid)
    for child in found:
        with suppress(OSError):
            if b"EngineCore" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return max(found, key=resident)


def flatness(
    at_rest: Sequence[dict[str, int]], under_load: Sequence[tuple[float, dict[str, int]]]
) -> dict[str, Any]:
    """Tells whether memory grows.

    The memory in use depends on the running requests, so a leak shows when none are running: in the
    last pause compared with the first, which comes after a warm-up.

    Args:
        at_rest: bytes by process, in each pause.
        under_load: seconds since the start, and bytes by process.
    """
    totals = [sum(found.values()) for found in at_rest]
    growth = totals[-1] / totals[0] - 1 if len(totals) > 1 and totals[0] else None
    load = [(at, sum(found.values())) for at, found in under_load]
    end = max((at for at, _ in load), default=0.0)
    quarters = [
        [size for at, size in load if n <= WINDOWS * at / end < n + 1] for n in range(WINDOWS)
    ]
    lasting = [name for name in (at_rest[0] if at_rest else ()) if name in at_rest[-1]]
    return {
        "growth": growth,
        "flat": growth is not None and growth <= FLAT,
        "at_rest_bytes": totals,
        "at_rest_bytes_by_process": {
            name: [found.get(name) for found in at_rest] for name in lasting
        },
        "under_load_bytes": [statistics.median(sizes) for sizes in quarters if sizes],
        "samples": len(load),
        "begin_bytes": load[0][1] if load else None,
        "most_bytes": max((size for _, size in load), default=None),
    }
