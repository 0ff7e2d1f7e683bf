"""Measuring: seconds of rivals in turn, peak memory of one call, and the machine it was done on.

It knows nothing of what is measured.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from layerbridge.errors import LayerBridgeError
from layerbridge.version import __version__

# What a figure may depend on besides the machine.
PACKAGES = ("torch", "transformers", "triton")

# Receives the calls done, the calls in all and the name of the current one.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Timing:
    """Seconds of one contestant, one for each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Median, fastest and slowest round, in seconds."""
        low, high = min(self.seconds), max(self.seconds)
        return {"median": self.median, "min": low, "max": high, "rounds": len(self.seconds)}


def interleave(
    contestants: Mapping[str, Callable[[], Any]],
    repeat: int,
    *,
    device: torch.device | str = "cpu",
    warm_up: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Timing]:
    """Times each contestant once a round (A B A B …), so that a slow minute hits all alike.

    Args:
        contestants: what to call, by name.
        repeat: rounds.
        device: waited for before the clock is read.
        warm_up: call each once before the first round.
        progress: told the calls done, the calls in all and the contestant.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    total, done = (repeat + warm_up) * len(contestants), 0
    for turn in range(-1 if warm_up else 0, repeat):
        for name, call in contestants.items():
            synchronize(device)
            started = time.perf_counter()
            call()
            synchronize(device)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - started)
            done += 1
            if progress is not None:
                progress(done, total, name)
    return {name: Timing(tuple(taken)) for name, taken in seconds.items()}


def ratio(slow: Timing, fast: Timing) -> float:
    """How many times faster: the median of the rounds' own ratios, as rounds are paired."""
    pairs = zip(slow.seconds, fast.seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def synchronize(device: torch.device | str) -> None:
    """Waits for what was given to a GPU; a CPU has nothing outstanding."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)`` in a new process, so that its peak of memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def peak_bytes(call: Callable[[], Any], device: torch.device | str = "cpu") -> tuple[int, int]:
    """Memory before a call and at its peak, in bytes: of the GPU, or of the whole process."""
    if torch.device(device).type == "cuda":
        synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        synchronize(device)
        return before, torch.cuda.max_memory_allocated(device)
    before = _resident("VmRSS")
    _forget_peak()
    call()
    return before, _resident("VmHWM")


def _resident(name: str) -> int:
    """A line of the process's own account, in bytes.

    Not ``getrusage``: its peak outlives ``exec``, so a small child of a large parent has the
    parent's.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        raise LayerBridgeError(
            "this system does not tell a process's peak of memory",
            allowed="Linux, or --device cuda",
        ) from None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def _forget_peak() -> None:
    """Lets the peak start again from here, where the kernel allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """What a figure should be read with: hardware, threads and versions."""
    found: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "layerbridge": __version__,
    }
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
