"""``bench memory``: peak memory of one training step, each contestant in a process of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from layerbridge.benchmarking.measure import in_fresh_process, peak_bytes
from layerbridge.benchmarking.train import TrainCase, ours, reference
from layerbridge.models.backbone import resolve_dtype


def run(case: TrainCase) -> dict[str, Any]:
    """Peaks of both, backbones included, on the heaviest batch: the longest texts.

    Returns:
        ``ratio`` (ours over the reference in float32, LangBridge's default),
        ``ratio_same_dtype``, and the peaks in bytes.
    """
    # Both read the states in the step: what a cache holds is the user's choice.
    case = replace(case, levers=case.levers - {"cached"})
    exact = replace(case, pair=replace(case.pair, dtype="float32"))
    peaks = {
        "layerbridge": in_fresh_process(peak_of_step, case, True),
        "reference": in_fresh_process(peak_of_step, case, False),
    }
    is_exact = resolve_dtype(case.pair.dtype) == torch.float32
    peaks["reference, float32"] = (
        peaks["reference"] if is_exact else in_fresh_process(peak_of_step, exact, False)
    )
    return {
        "ratio": peaks["layerbridge"] / peaks["reference, float32"],
        "ratio_same_dtype": peaks["layerbridge"] / peaks["reference"],
        "peak_bytes": peaks,
        "batch": case.batch,
    }


def peak_of_step(case: TrainCase, is_ours: bool) -> int:
    """Peak bytes of the heaviest step: the one with the longest texts."""
    backbones = case.pair.load_encoder(), case.pair.load_language_model()
    contestant = (ours if is_ours else reference)(case, backbones)
    heaviest = max(contestant.dataset, key=lambda rows: max(len(row.text) for row in rows))
    _, peak = peak_bytes(lambda: contestant.step(heaviest), case.pair.place())
    return peak
