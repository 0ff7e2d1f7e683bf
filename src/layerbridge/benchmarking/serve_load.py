"""Closed-loop load: each client sends its next request when it has its answer."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

ALONE = "vllm alone"
# The concurrency of the headline ratios.
HEADLINE = 32

Request = TypeVar("Request")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Sample:
    """One request: seconds from sending it to its first and last token and to the reply's end.

    ``prompt_tokens`` are positions of the language model's input; ``error`` says why there is no
    answer.
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
    """One server at one concurrency, once; samples in the order of the requests.

    ``cpu_s`` is the client's CPU time, ``before_s`` that of work for these requests which was done
    before the first was sent.
    """

    seconds: float
    cpu_s: float
    samples: tuple[Sample, ...]
    before_s: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Returns the rate of all answers together."""
        return sum(sample.tokens for sample in self.samples) / self.seconds


# One server's rounds, by concurrency.
Levels = Mapping[int, Sequence[Round]]


async def load(
    clients: Sequence[Callable[[Request], Awaitable[Answer]]],
    requests: Sequence[Request],
    read: Callable[[Answer], Sample],
) -> Round:
    """Sends all requests in their order and measures how long that takes.

    Args:
        clients: send one request at a time each and return its answer.
        requests: each client takes the next one when it is free.
        read: turns an answer into a sample, after the clock has stopped.
    """
    pending = iter(enumerate(requests))
    answers: dict[int, Answer] = {}

    async def work(client: Callable[[Request], Awaitable[Answer]]) -> None:
        for index, request in pending:
            answers[index] = await client(request)

    cpu, started = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(work(client))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Round(seconds, cpu, tuple(read(answers[index]) for index in range(len(requests))))


def summary(rounds: Sequence[Round], concurrency: int) -> dict[str, Any]:
    """Summarizes the rounds of one server at one concurrency.

    Returns:
        ``tokens_per_second`` and ``requests_per_second`` (of the median round);
        ``ms_to_first_token``, ``ms_per_token`` (between the first and the last) and ``latency_ms``,
        each p50 and p99 over all answers; ``errors`` by kind; ``client_cpu``, the share of one core
        that the client took; ``before_s`` of the median round.
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
    """Returns p50 and p99 in milliseconds; None of nothing."""
    if not seconds:
        return None
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"p50": 1e3 * float(p50), "p99": 1e3 * float(p99)}


def compare(rounds: Mapping[str, Levels]) -> dict[str, Any]:
    """Compares the servers: medians of the ratios of rounds that were measured in turn.

    Returns:
        ``speedup_vllm_32``, vLLM's tokens per second over torch's at concurrency 32;
        ``gateway_overhead``, those of vLLM alone over the server's, less 1;
        ``gateway_overhead_beyond_embedding``, the same with the time to embed its texts added to
        vLLM alone; each ``…_by_concurrency`` too, and None where it was not measured;
        ``same_text``, the share of requests that both engines answered alike.
    """
    torch, vllm, alone = (rounds.get(name, {}) for name in ("torch", "vllm", ALONE))
    charged = {
        level: [replace(one, seconds=one.seconds + one.before_s) for one in own]
        for level, own in alone.items()
    }
    speedup = _ratios(vllm, torch)
    overhead = {level: ratio - 1 for level, ratio in _ratios(alone, vllm).items()}
    beyond = {level: ratio - 1 for level, ratio in _ratios(charged, vllm).items()}
    return {
        "speedup_vllm_32": speedup.get(HEADLINE),
        "gateway_overhead": overhead.get(HEADLINE),
        "gateway_overhead_beyond_embedding": beyond.get(HEADLINE),
        "speedup_vllm_by_concurrency": {str(k): v for k, v in speedup.items()},
        "gateway_overhead_by_concurrency": {str(k): v for k, v in overhead.items()},
        "gateway_overhead_beyond_embedding_by_concurrency": {str(k): v for k, v in beyond.items()},
        "same_text": _same_text(vllm, torch),
    }


def _ratios(numerators: Levels, denominators: Levels) -> dict[int, float]:
    """Returns the median ratio of tokens per second by concurrency."""
    ratios = {}
    for level in numerators.keys() & denominators.keys():
        pairs = zip(numerators[level], denominators[level], strict=False)
        rates = [(one.tokens_per_second, other.tokens_per_second) for one, other in pairs]
        if valid := [one / other for one, other in rates if one and other]:
            ratios[level] = statistics.median(valid)
    return dict(sorted(ratios.items()))


def _same_text(first: Levels, second: Levels) -> float | None:
    same = [
        a.text == b.text
        for level in first.keys() & second.keys()
        for one, other in zip(first[level], second[level], strict=True)
        for a, b in zip(one.samples, other.samples, strict=True)
        if a.error is None and b.error is None
    ]
    return statistics.fmean(same) if same else None
