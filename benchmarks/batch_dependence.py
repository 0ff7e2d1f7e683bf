"""Measures by how much an answer depends on the other texts of its batch.

    python benchmarks/batch_dependence.py runs/demo/token-softmax -o batch-dependence.json

Each text is classified alone and in batches of several sizes, in each dtype. Reported are the
differences of the choice's probability (largest and mean) and how many choices differ, beside the
differences to float32: what the batch adds to what the dtype costs anyway. `rounded logits` are
those of a head in the language model's dtype, as before 0.2; else the options' logits are computed
in float32. Seconds are those of one pass over all texts in the largest batch.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from layerbridge import tasks
from layerbridge.models import language_model
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.inference import Classification
from layerbridge.progress import meter


def differences(
    found: Sequence[Classification], expected: Sequence[Classification]
) -> dict[str, Any]:
    """Returns by how much the probabilities of the expected choices differ."""
    off = [
        abs(one.probabilities[other.choice] - other.probabilities[other.choice])
        for one, other in zip(found, expected, strict=True)
    ]
    changed = sum(one.choice != other.choice for one, other in zip(found, expected, strict=True))
    return {
        "largest": float(f"{max(off):.3g}"),
        "mean": float(f"{sum(off) / len(off):.3g}"),
        "other choices": changed,
    }


def main() -> None:
    """Parses the command line, measures, writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--task", default="names")
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    task = tasks.get(given.task)
    rows = [row.text for code in task.languages for row in task.test(code)]
    texts = random.Random(0).sample(rows, given.texts)
    result: dict[str, Any] = {
        "run": Path(given.run).name,
        "task": given.task,
        "texts": len(texts),
        "device": given.device,
        "torch": torch.__version__,
    }
    settings = [("float32", False), ("bfloat16", True), ("bfloat16", False)]
    exact: list[Classification] = []
    with meter("classifying") as bar:
        for number, (dtype, rounded) in enumerate(settings):
            bar.update(number, len(settings), dtype)
            bridge = LayerBridge.from_pretrained(given.run, dtype=dtype, device=given.device)
            with patch.object(
                language_model,
                "with_exact",
                (lambda logits, *_: logits) if rounded else language_model.with_exact,
            ):
                alone = bridge.classify(texts, batch_size=1)
                found = {}
                for size in given.batch_sizes:
                    started = time.perf_counter()
                    found[size] = bridge.classify(texts, batch_size=size)
                    seconds = time.perf_counter() - started
            exact = exact or alone
            result[dtype + (", rounded logits" if rounded else "")] = {
                **{f"batch {size}": differences(each, alone) for size, each in found.items()},
                "alone, to float32": differences(alone, exact),
                "seconds": round(seconds, 2),
            }
    given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
