"""Peak memory and rows per second of training on large backbones with random weights.

    python benchmarks/gpu_size.py write SHAPE FOLDER          # a checkpoint in bfloat16
    python benchmarks/gpu_size.py measure FILE.json …          # one case, see --help

``benchmarks/gpu_size.sh`` runs all cases. Memory and speed do not depend on what weights are.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from layerbridge.benchmarking import shapes
from layerbridge.benchmarking.measure import machine, peak_bytes, synchronize
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.placement import offloaded
from layerbridge.training.collation import pad_labels

LABELS = ("Entailment", "Neutral", "Contradiction")


def write(name: str, folder: Path, device: str) -> None:
    """Writes a checkpoint of a shape, which is then loaded as a downloaded one would be."""
    if (folder / "config.json").is_file():
        return
    shape = shapes.shape(name)
    model = shapes.build(shape, dtype="bfloat16", device=device)
    model.save_pretrained(folder)
    shapes.tokenizer(shape).save_pretrained(folder)


def measure(case: argparse.Namespace) -> dict[str, object]:
    """Loads the backbones, trains some steps, and scores the same texts."""
    device = torch.device(case.device)
    quantized = {
        name: None if bits == 16 else f"{bits}bit"
        for name, bits in (
            ("encoder", case.encoder_bits),
            ("language_model", case.language_model_bits),
        )
    }
    loaded: list[LayerBridge] = []
    started = time.perf_counter()

    def load() -> None:
        bridge = LayerBridge.from_backbones(
            str(case.encoder), str(case.language_model), dtype="bfloat16", device=case.device,
            projection_start="random", quantization_config=quantized, options=list(LABELS),
        )  # fmt: skip
        loaded.append(bridge)

    _, loading = peak_bytes(load, device)
    (bridge,) = loaded
    load_s = time.perf_counter() - started
    if case.checkpointing:
        bridge.language_model.checkpoint_layers()
    bridge.train()
    trained = [p for p in bridge.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    texts = [shapes.text(case.tokens, seed) for seed in range(case.batch)]
    model = bridge.language_model
    answers = [LABELS[row % len(LABELS)] for row in range(case.batch)]
    labels = pad_labels([[*model.token_ids(answer), model.eos_id] for answer in answers])
    batch = bridge.encoder.tokenize(texts)
    if case.cached:
        # As with --cache-states: the states are on the CPU, the encoder too.
        states = bridge.encoder.encode(texts).to("cpu")

    def step() -> None:
        optimizer.zero_grad()
        if case.cached:
            output = bridge(
                hidden_states=HiddenStates(states.stacked, states.mask), labels=labels.to(device)
            )
        else:
            output = bridge(**batch.to(device), labels=labels.to(device))
        assert output.loss is not None
        assert output.loss.isfinite(), "the loss is not finite"
        output.loss.backward()
        optimizer.step()

    def steps() -> None:
        for _ in range(case.steps):
            step()

    def train() -> tuple[int, int, float]:
        idle, peak = peak_bytes(step, device)  # the first step also makes the optimizer's state
        synchronize(device)
        started = time.perf_counter()
        _, later = peak_bytes(steps, device)
        return idle, max(peak, later), time.perf_counter() - started

    if case.cached:
        with offloaded(bridge.encoder.model):
            idle, peak, seconds = train()
    else:
        idle, peak, seconds = train()
    bridge.eval()
    synchronize(device)
    started = time.perf_counter()
    _, scoring = peak_bytes(lambda: bridge.classify(texts, batch_size=case.batch), device)
    classify_s = time.perf_counter() - started
    return {
        "weights_bytes": idle,
        "loading_peak_bytes": loading,
        "training_peak_bytes": peak,
        "scoring_peak_bytes": scoring,
        "training_rows_per_second": case.batch * case.steps / seconds,
        "scoring_rows_per_second": case.batch / classify_s,
        "loading_s": load_s,
        "trained_parameters": sum(parameter.numel() for parameter in trained),
        "encoder_layers": bridge.encoder.num_layers,
        "machine": machine(device),
    }


def main() -> None:
    """Runs one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    writing = verbs.add_parser("write")
    writing.add_argument("shape")
    writing.add_argument("folder", type=Path)
    writing.add_argument("--device", default="cpu")
    measuring = verbs.add_parser("measure")
    measuring.add_argument("file", type=Path)
    measuring.add_argument("--encoder", type=Path, required=True)
    measuring.add_argument("--language-model", type=Path, required=True)
    measuring.add_argument("--encoder-bits", type=int, choices=(4, 8, 16), default=16)
    measuring.add_argument("--language-model-bits", type=int, choices=(4, 8, 16), default=16)
    measuring.add_argument("--batch", type=int, default=16)
    measuring.add_argument("--tokens", type=int, default=128)
    measuring.add_argument("--steps", type=int, default=4)
    measuring.add_argument("--checkpointing", action="store_true")
    measuring.add_argument("--cached", action="store_true")
    measuring.add_argument("--device", default="cuda")
    case = parser.parse_args()
    if case.verb == "write":
        write(case.shape, case.folder, case.device)
        return
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(case).items()
        if name not in ("verb", "file")
    }
    try:
        found: dict[str, object] = {"case": settings, **measure(case)}
    except Exception as error:
        # The case is one of many: what went wrong is a result.
        found = {"case": settings, "error": f"{type(error).__name__}: {error}"[:500]}
    case.file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found))
    if "error" in found:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
