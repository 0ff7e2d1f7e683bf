"""What to change in a run that does not fit its device, and what it would take then."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from layerbridge.errors import LayerBridgeError
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.peak_memory import Skeleton, StepMemory, StepSize

# Parts of the memory that grow with the tokens of a batch.
_OF_BATCH = (
    *("encoder states", "fusion and projection", "language model activations", "logits"),
    *("backward", "encoding", "start of the projection"),
)
# Bits of a quantized number, with its share of the scales.
FOUR_BITS, EIGHT_BITS = 4.5, 8.25


@dataclass(frozen=True)
class Change:
    """One change, made alone.

    Attributes:
        flags: of ``layerbridge train``.
        peak: bytes at the peak, with it.
        fits: whether that is little enough.
    """

    flags: str
    peak: int
    fits: bool


def changes(
    skeleton: Skeleton,
    size: StepSize,
    memory: dict[str, int],
    step: StepMemory,
    available: int,
    *,
    arguments: BridgeTrainingArguments,
    mean: float,
    dtype: torch.dtype,
    cached: bool,
    quantized: bool,
) -> list[Change]:
    """Returns the changes that lower the peak, the most harmless first.

    Args:
        skeleton: of the bridge.
        size: of the heaviest batch.
        memory: bytes by part.
        step: of these, those of the step.
        available: bytes.
        arguments: of the training.
        mean: tokens of a row, text and target.
        dtype: of the backbones.
        cached: whether states are cached.
        quantized: whether the backbones are.
    """
    peak = sum(memory.values())
    of_batch = sum(memory.get(name, 0) for name in _OF_BATCH)
    found: list[tuple[str, int]] = []
    rows, room = size.rows, available - (peak - of_batch)
    if rows > 1:
        fewer = max(1, min(rows // 2, int(rows * max(room, 0) / of_batch)))
        fewer = 1 << (fewer.bit_length() - 1)
        steps = arguments.gradient_accumulation_steps * -(-rows // fewer)
        flags = f"--per-device-train-batch-size {fewer} --gradient-accumulation-steps {steps}"
        found.append((flags, peak - of_batch + of_batch * fewer // rows))
    longest = size.text_tokens + size.target_tokens
    average = round(rows * mean)
    if arguments.tokens_per_batch is None and average >= longest and 2 * average <= rows * longest:
        lower = of_batch * average // (rows * longest)
        found.append((f"--tokens-per-batch {average}", peak - of_batch + lower))
    if size.text_tokens >= 16:
        half = skeleton.step(replace(size, text_tokens=size.text_tokens // 2))
        lower = of_batch * half.peak // step.peak
        found.append((f"--max-text-tokens {size.text_tokens // 2}", peak - of_batch + lower))
    weights = sum(memory[name] for name in ("encoder weights", "language model weights"))
    if not arguments.checkpoints_layers and _can_checkpoint(arguments):
        less = skeleton.step(size, checkpointed=True)
        found.append(("--gradient-checkpointing true", peak - step.peak + less.peak))
    if dtype == torch.float32 and not quantized:
        halved = weights + memory["encoder states"] + memory["language model activations"]
        found.append(("--dtype bfloat16", peak - halved // 2))
    if not cached and memory["encoding"]:
        found.append(("--cache-states", peak - memory["encoding"]))
    if memory.get("start of the projection"):
        found.append(("--projection-start random", peak - memory["start of the projection"]))
    if not quantized:
        bits = sum(skeleton.weight_bytes(FOUR_BITS).values())
        found.append(("--load-in-4bit", peak - sum(skeleton.weight_bytes().values()) + bits))
    return [Change(flags, lower, lower <= available) for flags, lower in found if lower < peak]


def _can_checkpoint(arguments: BridgeTrainingArguments) -> bool:
    try:
        BridgeTrainingArguments(arguments.output_dir, gradient_checkpointing=True)
    except LayerBridgeError:
        return False
    return True
