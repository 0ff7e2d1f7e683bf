"""The table of times and memory: ``layerbridge bench latency`` on the preset's models."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from layerbridge.benchmarking import latency
from layerbridge.benchmarking.latency import LatencyCase
from layerbridge.benchmarking.measure import machine
from layerbridge.benchmarking.pair import Pair
from layerbridge.progress import meter, say
from layerbridge.report.tables.grid import ABSENT, Grid
from layerbridge.reproducing import paper, record
from layerbridge.reproducing.outcome import HINT, Outcome
from layerbridge.reproducing.request import Request
from layerbridge.training.atomic_write import atomic_write

HEAD = [
    *("method", "ms per token", "ms to first token", "time over last", "paper"),
    *("peak GB", "paper: peak GB"),
]


def run(request: Request) -> Outcome:
    """Measures, unless that was done, and compares with the paper's numbers."""
    timing, path = request.preset.timing, request.folder / "latency.json"
    # "auto", because a CPU without bfloat16 units would time its emulation.
    pair = Pair(timing.encoder, timing.language_model, "auto", request.device)
    case = LatencyCase(
        pair, texts=timing.texts, new_tokens=timing.new_tokens, translator=request.translator
    )
    settings = {**asdict(case), "repeat": timing.repeat}
    measured = _measured(path, settings, overwrite=request.overwrite)
    if measured is None:
        with meter("latency") as bar:
            measured = latency.run(case, timing.repeat, bar.update)
        measured["machine"] = machine(request.device)
        text = json.dumps({"settings": settings, "measured": measured}, indent=1) + "\n"
        atomic_write(text, path, hint=HINT)
    else:
        say(f"measured already: {path}")
    known, peaks = paper.times(), measured["peak_bytes"] or {}
    body = [
        [
            name,
            f"{milliseconds:.1f}",
            f"{measured['ms_to_first_token'][name]:.1f}",
            f"{measured['over_last'][name]:.2f}",
            f"{known.over_last[name]:.2f}" if name in known.over_last else ABSENT,
            f"{peaks[name] / 1e9:.2f}" if name in peaks else ABSENT,
            f"{known.peak_mb[name] / 1e3:.2f}" if name in known.peak_mb else ABSENT,
        ]
        for name, milliseconds in measured["ms_per_token"].items()
    ]
    grid = Grid(HEAD, body, 1)
    paragraphs = [
        f"`{pair.encoder}` and `{pair.language_model}`, {measured['dtype']}, on "
        f"{measured['machine'].get('gpu', measured['machine']['cpu'])}: {measured['new_tokens']} "
        f"tokens generated after texts of {measured['tokens']} tokens, greedy, one text at a "
        "time.\n",
        grid.markdown(),
        f"The paper's numbers: {known.source}: {known.ms_per_token['last']} ms per token for last; "
        "its translation model is NLLB 1.3B. Peak memory is measured on a GPU only.\n",
    ]
    facts = {"measured": measured, "paper": {**asdict(known), "over_last": known.over_last}}
    return Outcome.write(request, paragraphs, [grid], facts, paths=[path])


def _measured(path: Path, settings: dict[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
    """Returns the measurement with these settings, if there is one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        old, measured = document["settings"], document["measured"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    changed = record.is_changed(path, old, settings, overwrite=overwrite)
    return None if changed else dict(measured)
