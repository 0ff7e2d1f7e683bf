"""Cores: on a CPU, which of them write answers and which read texts.

vLLM binds its threads to all cores but one. An encoder that runs on the same cores takes turns with
them, and each waits for the other's slowest thread. So both get cores of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

# Of the cores, one part in so many reads texts: with the demo's pair a text takes 28 ms of a core,
# and 32 tokens of an answer to it 83.
ENCODER_PART = 4
SYSTEM = Path("/sys/devices/system")


@dataclass(frozen=True)
class Cores:
    """Processors, by the system's numbers.

    Attributes:
        language_model: one of each core that writes answers.
        encoder: one of each core that reads texts.
    """

    language_model: tuple[int, ...]
    encoder: tuple[int, ...]


def shared(cores: Sequence[int]) -> Cores | None:
    """A part for each; None where there is no more than one."""
    if len(cores) < 2:
        return None
    most = len(cores) - max(1, len(cores) // ENCODER_PART)
    return Cores(tuple(cores[:most]), tuple(cores[most:]))


def own_cores() -> list[int]:
    """The first processor of each core that this process may use; none where the system does not
    tell, or memory is nearer to some of them than to others.
    """
    if not hasattr(os, "sched_getaffinity") or len(list(SYSTEM.glob("node/node[0-9]*"))) > 1:
        return []
    first: dict[str, int] = {}
    for processor in sorted(os.sched_getaffinity(0)):
        siblings = SYSTEM / f"cpu/cpu{processor}/topology/thread_siblings_list"
        try:
            first.setdefault(siblings.read_text(), processor)
        except OSError:
            first[str(processor)] = processor
    return list(first.values())


def keep_to(processors: Iterable[int]) -> None:
    """What this thread computes, it computes there, on a thread for each at most."""
    processors = set(processors)
    torch.set_num_threads(min(torch.get_num_threads(), len(processors)))
    os.sched_setaffinity(0, processors)
