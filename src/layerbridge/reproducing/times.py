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
from layerbridge.errors import OutputError
from layerbridge.progress import meter, say
from layerbridge.report.tables.grid import ABSENT, Grid
from layerbridge.reproducing import paper, record
from layerbridge.reproducing.outcome import ELSEWHERE, TABLE, Outcome, facts, heading
from layerbridge.reproducing.request import Request
from layerbridge.training.atomic_write import atomic_write

RESULT = "latency.json"


def case(request: Request) -> LatencyCase:
    """What is timed.

    Raises:
        ConfigError: there is no such device here.
    """
    timing = request.preset.timing
    # A CPU without bfloat16 units would time its emulation.
    pair = Pair(timing.encoder, timing.language_model, "auto", request.place)
    return LatencyCase(
        pair,
        texts=timing.texts,
        new_tokens=timing.new_tokens,
        translator=request.translator,
    )


def run(request: Request) -> Outcome:
    """Measures, unless that was done, and puts it beside the paper's numbers.

    Raises:
        BackboneError: a model cannot be found.
        OutputError: it was measured with other settings, or a file cannot be written.
    """
    wanted = case(request)
    path = request.folder / RESULT
    settings = {**asdict(wanted), "repeat": request.preset.timing.repeat}
    there = _read(path)
    found = there["measured"] if there else None
    changed = record.difference(there["settings"], settings) if there else None
    if changed:
        if not request.overwrite:
            name, before, now = changed
            raise OutputError(
                f"{str(path)!r} was made with {name} {before!r}, and now it is {now!r}",
                hint="--overwrite to measure again, or another --output-dir",
            )
        found = None
    if found is None:
        with meter("latency") as bar:
            found = latency.run(wanted, request.preset.timing.repeat, bar.update)
        found["machine"] = machine(request.place)
        text = json.dumps({"settings": settings, "measured": found}, indent=1) + "\n"
        atomic_write(text, path, hint=ELSEWHERE)
    else:
        say(f"measured already: {path}")
    grid = _grid(found)
    text = _text(request, wanted, found, grid)
    table = atomic_write(text, request.folder / TABLE, hint=ELSEWHERE)
    known = paper.times()
    document = {
        **facts(request),
        "measured": found,
        "paper": {**asdict(known), "over_last": dict(known.over_last)},
        "paths": [str(path), str(table)],
    }
    return Outcome((path, table), (grid,), document)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(document, dict) and {"settings", "measured"} <= set(document)
    return document if whole else None


def _grid(found: dict[str, Any]) -> Grid:
    head = ["method", "ms a token", "ms to the first", "time over last", "paper", "peak GB"]
    known, peaks = paper.times().over_last, found["peak_bytes"] or {}
    body = []
    for name, each in found["ms_per_token"].items():
        theirs = f"{known[name]:.2f}" if name in known else ABSENT
        peak = f"{peaks[name] / 1e9:.2f}" if name in peaks else ABSENT
        first = f"{found['ms_to_first_token'][name]:.1f}"
        over = f"{found['over_last'][name]:.2f}"
        body.append([name, f"{each:.1f}", first, over, theirs, peak])
    return Grid(head, body, 1)


def _text(request: Request, wanted: LatencyCase, found: dict[str, Any], grid: Grid) -> str:
    known = paper.times()
    where = found["machine"].get("gpu", found["machine"]["cpu"])
    return "\n".join(
        [
            heading(request),
            f"`{wanted.pair.encoder}` and `{wanted.pair.language_model}`, {found['dtype']}, on "
            f"{where}: {found['new_tokens']} tokens generated after texts of {found['tokens']} "
            "tokens, greedy, one text at a time.\n",
            grid.markdown(),
            f"The paper's numbers: {known.source}. It also has a peak memory of "
            f"{known.peak_gb} GB; of which method, and on which GPU, is not known here. Peak "
            "memory is measured on a GPU alone.\n",
        ]
    )
