"""The processes of a run: those on one machine, which share its disk, and what all agree on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from layerbridge.errors import ConfigError
from layerbridge.models.backbone import dtype_name, resolve_dtype
from layerbridge.progress import is_one_of_several


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


def check_device(device: str | None) -> None:
    """Checks that several processes do not all get one GPU.

    Raises:
        ConfigError: the device has a number, and there are several processes.
    """
    if device is not None and ":" in device and is_one_of_several():
        raise ConfigError(
            f"device {device!r} would be that of every process",
            allowed="cpu, cuda (each process takes its own)",
            hint="leave --device out",
        )


def agreed_dtype(dtype: str, device: str | None) -> str:
    """Returns the dtype that all processes take: of ``"auto"``, what the first one finds.

    On a CPU that is measured, and each might find another.
    """
    if dtype != "auto" or PartialState().num_processes == 1:
        return dtype
    return gather_object([dtype_name(resolve_dtype(dtype, device))])[0]
