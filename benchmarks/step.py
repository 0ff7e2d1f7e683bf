"""One training step of the demo pair: layers as written or compiled, batch whole or split.

python benchmarks/step.py > benchmarks/results/cpu/step.json
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import partial

from layerbridge.benchmarking import sample
from layerbridge.benchmarking.measure import interleave, machine, to_dicts
from layerbridge.benchmarking.optimizations import OptimizedStep
from layerbridge.benchmarking.train import TrainCase
from layerbridge.models.language_model import LanguageModel
from layerbridge.tasks import Row

ROWS, TOKENS, ROUNDS = 32, 52, 4


def forward_and_backward(step: OptimizedStep, rows: Sequence[Row], size: int) -> None:
    """Computes the gradients of all rows, ``size`` of them at a time."""
    for at in range(0, len(rows), size):
        step.loss(rows[at : at + size]).backward()


def main() -> None:
    """Prints the seconds of each variant as JSON."""
    case = TrainCase()
    encoder, plain = case.pair.load()
    compiled = LanguageModel(copy.deepcopy(plain.model), plain.tokenizer)
    compiled.compile_layers()
    texts = [sample.text_of(encoder, TOKENS, number) for number in range(ROWS)]
    rows = [
        Row(str(number), text, sample.LABELS[number % len(sample.LABELS)], "en")
        for number, text in enumerate(texts)
    ]
    variants = {}
    for name, language_model in (("as written", plain), ("compiled", compiled)):
        step = OptimizedStep(case.bridge((encoder, language_model)).train())
        step.states(texts)
        for size in (ROWS, ROWS // 4):
            run = partial(forward_and_backward, step, rows, size)
            variants[f"{name}, {size} rows at a time"] = run
    seconds = to_dicts(interleave(variants, ROUNDS))
    print(json.dumps({"seconds": seconds, "machine": machine("cpu")}, indent=1))


if __name__ == "__main__":
    main()
