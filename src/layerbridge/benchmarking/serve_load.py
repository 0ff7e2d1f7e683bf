"""Load: so many clients that each ask again as soon as they are answered, and what that measures.

It knows nothing of what is asked, nor how.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Sample:
    """One request. Seconds count from when it was sent.

    Attributes:
        first_s: until there was something of the answer.
        last_s: until there was the last of it.
        ended_s: until the reply was over.
        tokens: of the answer.
        prompt_tokens: positions of the language model's input, if they were told.
        text: of the answer, if it was told.
        error: why there is no answer.
    """

    first_s: float = 0.0
    last_s: float = 0.0
    ended_s: float = 0.0
    tokens: int = 0
    prompt_tokens: int = 0
    text: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Round:
    """One contestant at one concurrency, once.

    Attributes:
        seconds: from the first request to the last reply.
        cpu_s: of the process that asked.
        samples: in the order of the requests.
        before_s: of work for these requests that was done before the first of them was sent.
    """

    seconds: float
    cpu_s: float
    samples: tuple[Sample, ...]
    before_s: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Of all answers together."""
        return sum(sample.tokens for sample in self.samples) / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Round:
        """The reverse of ``to_dict``."""
        samples = tuple(Sample(**sample) for sample in found["samples"])
        return cls(found["seconds"], found["cpu_s"], samples, found["before_s"])


async def load(
    ask: Callable[[T], Awaitable[U]],
    requests: Sequence[T],
    concurrency: int,
    read: Callable[[U], Sample],
) -> Round:
    """All requests, so many at once.

    Args:
        ask: sends one, and has its reply.
        requests: in their order.
        concurrency: how many clients there are; each takes the next request when it is free.
        read: what a reply comes to; called when the clock has stopped.
    """
    left = iter(enumerate(requests))
    replies: dict[int, U] = {}

    async def client() -> None:
        for place, request in left:
            replies[place] = await ask(request)

    cpu, started = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(requests))):
            group.create_task(client())
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Round(seconds, cpu, tuple(read(replies[place]) for place in range(len(requests))))


def summary(rounds: Sequence[Round], concurrency: int) -> dict[str, Any]:
    """What the rounds of one contestant at one concurrency come to.

    Returns:
        ``tokens_per_second`` and ``requests_per_second`` (the middle round's), of all answers
        ``ms_to_first_token``, ``ms_per_token`` (from the first to the last, by answer) and
        ``latency_ms`` with p50 and p99, ``errors`` by kind, ``client_cpu``: the part of one core
        that whoever asked took, and ``before_s`` of the middle round.
    """
    samples = [sample for one in rounds for sample in one.samples]
    good = [sample for sample in samples if sample.error is None]
    paced = [sample for sample in good if sample.tokens > 1]
    answered = [sum(s.error is None for s in one.samples) / one.seconds for one in rounds]
    return {
        "concurrency": concurrency,
        "requests": len(samples),
        "tokens_per_second": statistics.median(one.tokens_per_second for one in rounds),
        "requests_per_second": statistics.median(answered),
        "ms_to_first_token": _percentiles([s.first_s for s in good]),
        "ms_per_token": _percentiles([(s.last_s - s.first_s) / (s.tokens - 1) for s in paced]),
        "latency_ms": _percentiles([s.ended_s for s in good]),
        "errors": dict(Counter(sample.error for sample in samples if sample.error is not None)),
        "tokens": sum(sample.tokens for sample in good),
        "rounds_tokens_per_second": [one.tokens_per_second for one in rounds],
        "client_cpu": statistics.median(one.cpu_s / one.seconds for one in rounds),
        "before_s": statistics.median(one.before_s for one in rounds),
    }


def _percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """In milliseconds; None of nothing."""
    if not seconds:
        return None
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"p50": 1e3 * float(p50), "p99": 1e3 * float(p99)}
