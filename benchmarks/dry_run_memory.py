"""The peak memory that ``train --dry-run`` foretells, and the one that a run has.

Each is found in a process of its own, on the CPU.

    python benchmarks/dry_run_memory.py --language-model zoo:smollm2-135m-instruct \
        -o benchmarks/results/dry-run/smollm2-135m-instruct.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from layerbridge.benchmarking.measure import in_fresh_process, machine
from layerbridge.training.plan import plan
from layerbridge.training.recipe import Recipe
from layerbridge.training.run import train


def foretold(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Returns the plan of a run."""
    started = time.process_time()
    found = plan(recipe, folder, device="cpu").to_dict()
    return {**found, "cpu_s": round(time.process_time() - started, 1)}


def measured(recipe: Recipe, folder: Path) -> int:
    """Trains, and returns the peak of the process in bytes."""
    train(recipe, folder, device="cpu")
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Compares both for one pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="zoo:multilingual-e5-small")
    parser.add_argument("--language-model", default="zoo:smollm2-135m-instruct")
    parser.add_argument("--task", default="names")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--max-steps", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    recipe = Recipe(
        encoder=given.encoder,
        language_model=given.language_model,
        task=given.task,
        backbones={"dtype": given.dtype},
        training={
            "max_steps": given.max_steps,
            "per_device_train_batch_size": given.batch,
            "eval_strategy": "no",
        },
    )
    with tempfile.TemporaryDirectory() as name:
        found = in_fresh_process(foretold, recipe, Path(name, "planned"))
        print(json.dumps(found["memory"]), file=sys.stderr)
        peak = in_fresh_process(measured, recipe, Path(name, "run"))
    result = {
        "command": " ".join(["python", *sys.argv]),
        "encoder": given.encoder,
        "language_model": given.language_model,
        "foretold_bytes": found["peak"],
        "measured_bytes": peak,
        "ratio": found["peak"] / peak,
        "plan": found,
        "machine": machine("cpu"),
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("foretold_bytes", "measured_bytes", "ratio")}))


if __name__ == "__main__":
    main()
