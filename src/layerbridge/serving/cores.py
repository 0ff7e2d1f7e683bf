"""CPU cores: which of them run vLLM and which run the encoder.

vLLM binds its threads to all cores but one. An encoder on the same cores would make each wait for
the other's slowest thread, so both get cores of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

# One core in four encodes: with the demo's models a text takes 28 ms of a core, and 32 tokens of
# its completion take 83.
ENCODER_FRACTION = 4
SYSTEM = Path("/sys/devices/system")


@dataclass(frozen=True)
class Cores:
    """Processor numbers, one per core."""

    language_model: tuple[int, ...]  # for vLLM
    encoder: tuple[int, ...]


def split_cores(cores: Sequence[int]) -> Cores | None:
    """Splits the cores; None if there are fewer than two."""
    if len(cores) < 2:
        return None
    count = len(cores) - max(1, len(cores) // ENCODER_FRACTION)
    return Cores(tuple(cores[:count]), tuple(cores[count:]))


def available_cores() -> list[int]:
    """Returns the first processor of each core this process may use.

    Empty on several NUMA nodes, which are left to vLLM, and where the system has no affinities.
    """
    if not hasattr(os, "sched_getaffinity") or len(list(SYSTEM.glob("node/node[0-9]*"))) > 1:
        return []
    cores: dict[str, int] = {}
    for processor in sorted(os.sched_getaffinity(0)):
        siblings = SYSTEM / f"cpu/cpu{processor}/topology/thread_siblings_list"
        try:
            cores.setdefault(siblings.read_text(), processor)
        except OSError:
            cores[str(processor)] = processor
    return list(cores.values())


def bind_thread(processors: Iterable[int]) -> None:
    """Binds this thread and torch's helper threads to these processors."""
    processors = set(processors)
    torch.set_num_threads(min(torch.get_num_threads(), len(processors)))
    os.sched_setaffinity(0, processors)
