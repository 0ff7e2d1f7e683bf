"""Peak memory of training on a file that is larger than memory may hold.

Writes a JSONL file of the given size, trains two steps on it, and does the same with a file of a
thousand rows: the difference of the two peaks is what the rows take, beyond libraries and models.
The models are tiny and random, unless others are given: they are the same in both runs.

    python benchmarks/large_data.py -o benchmarks/results/large-data/2-gb.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tiny_run

from layerbridge.benchmarking.measure import in_fresh_process, machine
from layerbridge.training.recipe import Recipe
from layerbridge.training.run import train

SMALL = 1000  # rows
WORDS = ("market", "players", "rates", "ended", "crowd", "goal", "song", "shares", "week", "house")
LABELS = ("business", "sports", "music", "travel")


def write(path: Path, size: int) -> int:
    """Writes a file of about ``size`` bytes with texts of some 800 characters; returns its rows."""
    draw = random.Random(0)
    tails = [" ".join(draw.choices(WORDS, k=draw.randint(70, 210))) for _ in range(2000)]
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        while rows % 1000 or file.tell() < size:
            text = f"{rows} {tails[rows % len(tails)]}"
            file.write(json.dumps({"text": text, "label": LABELS[rows % len(LABELS)]}) + "\n")
            rows += 1
    return rows


def peak(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Trains, and returns the peak of the process and its seconds."""
    started = time.monotonic()
    train(recipe, folder, device="cpu")
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    facts = dict(line.split(":", 1) for line in lines)
    return {
        "peak_bytes": int(facts["VmHWM"].split()[0]) * 1024,
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Measures both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--encoder")
    parser.add_argument("--language-model")
    parser.add_argument("--max-steps", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="for the files; a temporary one if omitted")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
        if given.encoder is None or given.language_model is None:
            tiny_run.make(folder)
        found: dict[str, Any] = {}
        for kind, size in (("small", SMALL * 800), ("large", round(given.gigabytes * 1e9))):
            file = folder / f"{kind}.jsonl"
            started = time.monotonic()
            rows = write(file, size)
            print(f"{kind}: {rows} rows written", file=sys.stderr)
            recipe = Recipe(
                encoder=given.encoder or str(folder / "encoder"),
                language_model=given.language_model or str(folder / "language-model"),
                data=str(file),
                target="label",
                backbones={"dtype": "float32"},
                # The start reads as many tokens of either file.
                bridge={"projection_start": "random", "max_text_tokens": 32},
                training={
                    "max_steps": given.max_steps,
                    "eval_strategy": "no",
                    "save_strategy": "steps",
                    "save_steps": given.max_steps // 2,
                    "save_total_limit": 2,
                },
            )
            found[kind] = {
                "rows": rows,
                "bytes": file.stat().st_size,
                "writing_s": round(time.monotonic() - started, 1),
                **in_fresh_process(peak, recipe, folder / kind),
            }
            print(json.dumps({kind: found[kind]}), file=sys.stderr)
        found["beyond_small_bytes"] = found["large"]["peak_bytes"] - found["small"]["peak_bytes"]
    command = f"python {sys.argv[0]} --gigabytes {given.gigabytes} -o {given.output}"
    result = {"command": command, **found, "machine": machine("cpu")}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
