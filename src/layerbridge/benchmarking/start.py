"""``bench start``: memory and time of starting the projection, by the number of training rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from layerbridge.benchmarking import sample
from layerbridge.benchmarking.measure import Progress, in_fresh_process, peak_bytes
from layerbridge.benchmarking.pair import Pair


@dataclass(frozen=True)
class StartCase:
    """What is started.

    Args:
        pair: the backbones.
        fusion: the strategy.
        start: ``"scaled"`` or ``"aligned"``.
        rows: numbers of training rows.
    """

    pair: Pair = field(default_factory=Pair)
    fusion: str = "token-softmax"
    start: str = "aligned"
    rows: Sequence[int] = (10_000, 100_000)


def run(case: StartCase, progress: Progress | None = None) -> dict[str, Any]:
    """Measures each number of rows in a process of its own.

    Returns:
        ``growth`` (the last peak over the first), and by number of rows: the peak with models and
        texts, what the start adds to them, and the seconds.
    """
    peaks, added, seconds = {}, {}, {}
    for done, count in enumerate(case.rows, start=1):
        before, peak, taken = in_fresh_process(peak_of_start, case, count)
        name = f"{count} rows"
        peaks[name], added[name], seconds[name] = peak, peak - before, taken
        if progress is not None:
            progress(done, len(case.rows), name)
    first, *_, last = peaks.values() if len(peaks) > 1 else [*peaks.values()] * 2
    return {
        "growth": last / first,
        "peak_bytes": peaks,
        "added_bytes": added,
        "seconds": seconds,
        "start": case.start,
    }


def peak_of_start(case: StartCase, count: int) -> tuple[int, int, float]:
    """Returns the bytes before the start and at its peak, and the seconds it takes."""
    encoder, language_model = case.pair.load()
    # Of real lengths, and all different: equal texts would be read once.
    known = [row.text for row in sample.rows(encoder, min(count, len(sample.real_lengths())))]
    texts = [f"{known[index % len(known)]} {index}" for index in range(count)]
    started = time.perf_counter()

    def start() -> None:
        case.pair.bridge(
            case.fusion,
            backbones=(encoder, language_model),
            projection_start=case.start,
            texts=texts,
        )

    before, peak = peak_bytes(start, case.pair.torch_device())
    return before, peak, time.perf_counter() - started
