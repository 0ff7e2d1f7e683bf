"""``bench memory``: peak memory of one training step, each candidate in a process of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from layerbridge.benchmarking.measure import in_fresh_process, peak_bytes
from layerbridge.benchmarking.train import TrainCase, ours, reference
from layerbridge.models.backbone import resolve_dtype


def run(case: TrainCase) -> dict[str, Any]:
    """Measures both on the batch with the longest text, backbones included.

    Returns:
        ``ratio`` (ours over the reference in float32, LangBridge's default),
        ``ratio_same_dtype``, ``ratio_checkpointed`` (of ours, with gradient checkpointing over
        without), and the peaks in bytes.
    """
    # Both run the encoder in the step: what a cache of states takes is the user's choice.
    case = replace(case, optimizations=case.optimizations - {"cached"})
    ours_peak, reference_peak = (
        in_fresh_process(peak_of_step, case, is_ours) for is_ours in (True, False)
    )
    checkpointed = in_fresh_process(peak_of_step, replace(case, checkpointed=True), True)
    exact = reference_peak
    if resolve_dtype(case.pair.dtype, case.pair.torch_device()) != torch.float32:
        full = replace(case, pair=replace(case.pair, dtype="float32"))
        exact = in_fresh_process(peak_of_step, full, False)
    return {
        "ratio": ours_peak / exact,
        "ratio_same_dtype": ours_peak / reference_peak,
        "ratio_checkpointed": checkpointed / ours_peak,
        "peak_bytes": {
            "layerbridge": ours_peak,
            "layerbridge, gradient checkpointing": checkpointed,
            "reference": reference_peak,
            "reference, float32": exact,
        },
        "batch": case.batch,
    }


def peak_of_step(case: TrainCase, is_ours: bool) -> int:
    """Returns the peak bytes of the step with the longest text."""
    loop = (ours if is_ours else reference)(case, case.pair.load())
    heaviest = max(loop.dataset, key=lambda rows: max(len(row.text) for row in rows))
    _, peak = peak_bytes(lambda: loop.step(heaviest), case.pair.torch_device())
    return peak
