"""Measuring: seconds of alternating calls, peak memory of one call, and the machine.

It knows nothing about what is measured.
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
from layerbridge.models.cpu_speed import cpu_name
from layerbridge.version import __version__

# What a figure may depend on besides the machine.
PACKAGES = ("torch", "transformers", "triton")

# Receives the calls done, the calls in all and the name of the current one.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate, one number for each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Returns the seconds of the median round."""
        return statistics.median(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Returns the median, fastest and slowest round, in seconds."""
        low, high = min(self.seconds), max(self.seconds)
        return {"median": self.median, "min": low, "max": high, "rounds": len(self.seconds)}


def interleave(
    candidates: Mapping[str, Callable[[], Any]],
    repeat: int,
    *,
    device: torch.device | str = "cpu",
    warm_up: bool = True,
    progress: Progress | None = None,
) -> dict[str, Timing]:
    """Times each candidate once a round (A B A B …), so that a slow minute affects all alike.

    Args:
        candidates: what to call, by name.
        repeat: rounds.
        device: synchronized before the clock is read.
        warm_up: call each once before the first round.
        progress: called after every call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    total, done = (repeat + warm_up) * len(candidates), 0
    for turn in range(-1 if warm_up else 0, repeat):
        for name, call in candidates.items():
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


def to_dicts(timings: Mapping[str, Timing]) -> dict[str, dict[str, Any]]:
    """Returns ``Timing.to_dict`` of each candidate."""
    return {name: timing.to_dict() for name, timing in timings.items()}


def ratio(slow: Timing, fast: Timing) -> float:
    """Returns how many times faster ``fast`` is: the median of the ratios of paired rounds."""
    pairs = zip(slow.seconds, fast.seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def synchronize(device: torch.device | str) -> None:
    """Waits for a GPU to finish; does nothing on a CPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls the function in a new process, so that its peak of memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def peak_bytes(call: Callable[[], Any], device: torch.device | str = "cpu") -> tuple[int, int]:
    """Returns the memory before a call and at its peak, in bytes: of the GPU, or of the process."""
    if torch.device(device).type == "cuda":
        synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        synchronize(device)
        return before, torch.cuda.max_memory_allocated(device)
    before = _process_bytes("VmRSS")
    # The peak starts again from here, where the kernel allows it.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    call()
    return before, _process_bytes("VmHWM")


def _process_bytes(name: str) -> int:
    """Returns a figure of ``/proc/self/status``.

    ``getrusage`` will not do: its peak outlives ``exec``, so a child starts with its parent's.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        raise LayerBridgeError(
            "this system does not report a process's peak memory",
            allowed="Linux, or --device cuda",
        ) from None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Returns the hardware, threads and versions that figures depend on."""
    facts: dict[str, Any] = {
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "layerbridge": __version__,
    }
    if torch.device(device).type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            facts[package] = importlib.metadata.version(package)
    return facts
