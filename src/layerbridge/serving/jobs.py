"""Jobs: requests inside the torch engine. One that fails does not fail others.

Legend: T LM tokens, D LM width.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.serving.decoding import Row

Outcome = TypeVar("Outcome")


@dataclass(eq=False)
class Job:
    """A request, the queue for its results, and what a completion consists of so far."""

    request: Any
    queue: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    embeds: Float[Tensor, "T D"] | None = None  # the language model's input
    row: Row | None = None
    tokens: list[int] = field(default_factory=list)  # generated so far
    max_tokens: int = 0
    has_started: bool = False

    async def result(self) -> Any:
        """Returns the next result, or raises it."""
        result = await self.queue.get()
        if isinstance(result, BaseException):
            raise result
        return result


class LostDeviceError(Exception):
    """The device fails every call from now on, as CUDA does after most errors."""


def isolated(
    jobs: list[Job], run: Callable[[list[Job]], Outcome], device: torch.device
) -> list[tuple[list[Job], Outcome | Exception]]:
    """Runs jobs together; if that fails, in halves, until the failure is that of one job.

    Args:
        jobs: at least one.
        run: may be called again with some of the jobs after it has failed.
        device: of the models.

    Returns:
        Parts of ``jobs``, in order, with what ``run`` returned for each or why it failed.

    Raises:
        LostDeviceError: no other job can be run either.
    """
    try:
        return [(jobs, run(jobs))]
    except Exception as error:
        check_device(device)
        failure = as_failure(error)
    if len(jobs) == 1:
        return [(jobs, failure)]
    middle = len(jobs) // 2
    return [*isolated(jobs[:middle], run, device), *isolated(jobs[middle:], run, device)]


def as_failure(error: Exception) -> Exception:
    """Returns an exception of a model as the job that caused it sees it."""
    if isinstance(error, torch.OutOfMemoryError):
        return MemoryError(str(error))
    return error


def check_device(device: torch.device) -> None:
    """Raises ``LostDeviceError`` if the device no longer works."""
    if device.type == "cpu":
        return
    try:
        if device.type == "cuda":
            torch.cuda.empty_cache()
        torch.ones(1, device=device).cpu()
    except torch.OutOfMemoryError:
        return
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise LostDeviceError(f"{device} no longer works: {reason}") from error
