"""The processes of a run on one machine, which share its disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object


@dataclass(frozen=True)
class Node:
    """The machine of this process.

    Attributes:
        size: number of the run's processes on it.
        index: of this process among them.
    """

    size: int
    index: int

    @classmethod
    def here(cls) -> Node:
        """Returns the node of this process."""
        state = PartialState()
        size = min(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), state.num_processes)
        return cls(size, state.process_index % size)

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of this machine's processes. Every process of the run calls it."""
        values = gather_object([value])
        # torchrun numbers the processes machine by machine.
        first = PartialState().process_index - self.index
        return values[first : first + self.size]
