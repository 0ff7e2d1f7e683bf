"""What a run will take, without loading a model: ``train --dry-run``.

Rows are read and models are built from their configs; weights are not read. The step with the
longest texts is run on fake tensors (``peak_memory``).
"""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch
from transformers import AutoModelForCausalLM

from layerbridge.errors import BackboneError, ConfigError
from layerbridge.hub.sources import Source, resolve
from layerbridge.models import fusion
from layerbridge.models.backbone import (
    LoadOptions,
    choose_device,
    dtype_name,
    load,
    load_config,
    load_tokenizer,
)
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder_loading import build_text_encoder
from layerbridge.models.language_model import causal_config
from layerbridge.models.positions import position_limit
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.defaults import FUSION, complete, watched
from layerbridge.training.output import nearest_existing
from layerbridge.training.peak_memory import TRAINING_BYTES, Skeleton, StepMemory, count
from layerbridge.training.plan_changes import EIGHT_BITS, FOUR_BITS, Change, changes
from layerbridge.training.plan_rows import PlannedRows, TokenLengths
from layerbridge.training.recipe import Recipe, override
from layerbridge.training.run import training_arguments
from layerbridge.training.schedule import steps
from layerbridge.training.transfer import check_transfer

# Texts that the start of the projection reads at a time.
START_BATCH = 128


@dataclass(frozen=True)
class Plan:
    """What a run will take; ``to_dict`` is what ``--json`` prints.

    Attributes:
        rows: of training and validation; ``about`` if they are an estimate.
        parameters: by module, and how many are trained and frozen.
        steps: of the optimizer.
        batch: of the step that takes the most memory.
        dtype: of the backbones.
        device: where they will be.
        memory: bytes by part; their sum is the peak.
        peak: most bytes at once.
        available: bytes that the device has for this run; None if that is not known.
        disk: bytes by part, and ``free`` ones.
        changes: what would lower the peak, and to what, if it does not fit.
    """

    rows: dict[str, Any]
    parameters: dict[str, int]
    steps: int
    batch: dict[str, int]
    dtype: str
    device: str
    memory: dict[str, int]
    peak: int
    available: int | None
    disk: dict[str, int]
    changes: list[Change] = field(default_factory=list)

    @property
    def fits(self) -> bool | None:
        """Whether the peak is below what is available; None if that is not known."""
        return None if self.available is None else self.peak <= self.available

    def to_dict(self) -> dict[str, Any]:
        """Returns the plan for programs."""
        return {**asdict(self), "fits": self.fits}


def plan(recipe: Recipe, output_dir: str | Path, *, device: str | None = None) -> Plan:
    """Returns what a run will take; writes nothing.

    Args:
        recipe: of the run.
        output_dir: of the run; it may exist.
        device: as in ``train``.

    Raises:
        LayerBridgeError: as ``train``, as far as that is known without weights.
    """
    recipe.check()
    if recipe.bridge.get("fusion", FUSION) not in fusion.names():
        raise ConfigError(f"unknown fusion {recipe.bridge['fusion']!r}", allowed=fusion.names())
    BridgeConfig(**recipe.bridge)  # checks the settings before anything is read
    device, folder = choose_device(device), Path(output_dir)
    arguments = training_arguments(watched(recipe.training), folder, device=device)
    if recipe.cache_states:
        arguments.check_cached()
    check_transfer(recipe, arguments)
    rows = PlannedRows.read(recipe)
    if rows.is_estimate and not recipe.training.keys() & {"max_steps", "num_train_epochs"}:
        recipe = override(recipe, {"training": {"max_steps": steps(rows.training)}})
    recipe = complete(recipe, rows.data)
    arguments = training_arguments(recipe.training, folder, device=device)
    rows.data.report()
    names = ("dtype", "attn_implementation", "trust_remote_code", "allow_pickle")
    given = {name: recipe.backbones[name] for name in names if name in recipe.backbones}
    options = LoadOptions(**given, device=device)
    bridge = {"fusion": FUSION, **recipe.bridge, "options": rows.data.options}
    config = BridgeConfig(**bridge, template=rows.data.template)
    lengths = _lengths(recipe, options, config, rows)
    # Before the models are built: what Python, its libraries, rows and tokenizers take.
    process = psutil.Process().memory_info().rss if device == "cpu" else 0
    skeleton = _skeleton(recipe, config, options)
    size = lengths.heaviest(
        arguments.per_device_train_batch_size,
        arguments.tokens_per_batch,
        position_limit(skeleton.encoder),
    )
    step = skeleton.step(size, checkpointed=arguments.checkpoints_layers)
    weights = skeleton.weight_bytes(_bits(recipe))
    memory = {"process": process, **_memory(weights, skeleton.trained, step)}
    if config.projection_start != "random":
        # It reads texts before the first step, when nothing else is there.
        start = (step.states + step.encoding) * START_BATCH // size.rows
        memory["start of the projection"] = max(0, start - step.peak - memory["optimizer"])
    found = Plan(
        rows={
            "training": rows.training,
            "validation": rows.validation,
            "about": rows.is_estimate,
        },
        parameters=_parameters(skeleton),
        steps=_steps(arguments, rows.training, lengths.mean),
        batch=asdict(size),
        dtype=dtype_name(options.torch_dtype),
        device=device,
        memory=memory,
        peak=sum(memory.values()),
        available=_available(device),
        disk=_disk(
            recipe,
            rows,
            arguments,
            skeleton,
            lengths=lengths,
            folder=folder,
            dtype=options.torch_dtype,
        ),
    )
    if found.available is not None and not found.fits:
        found.changes.extend(
            changes(
                skeleton,
                size,
                memory,
                step,
                found.available,
                arguments=arguments,
                mean=lengths.mean,
                dtype=options.torch_dtype,
                cached=recipe.cache_states,
                quantized=_bits(recipe) is not None,
            )
        )
    return found


def _steps(arguments: BridgeTrainingArguments, rows: int, mean: float) -> int:
    if arguments.max_steps > 0:
        return arguments.max_steps
    batches = math.ceil(rows / (arguments.train_batch_size * arguments.world_size))
    if arguments.tokens_per_batch is not None:
        batches = math.ceil(rows * mean / arguments.tokens_per_batch)
    per_epoch = math.ceil(batches / arguments.gradient_accumulation_steps)
    return math.ceil((arguments.num_train_epochs or 1) * per_epoch)


def _lengths(
    recipe: Recipe, options: LoadOptions, config: BridgeConfig, rows: PlannedRows
) -> TokenLengths:
    tokenizers = {
        name: load_tokenizer(name.replace("_", " "), _source(recipe, name), options)
        for name in ("encoder", "language_model")
    }
    return TokenLengths.of(rows.data, config, tokenizers["encoder"], tokenizers["language_model"])


def _source(recipe: Recipe, name: str) -> Source:
    model_id, revision = getattr(recipe, name), recipe.backbones.get(f"{name}_revision")
    try:
        # A model of the zoo that is not here would be downloaded with its weights.
        return resolve(model_id, revision=revision, offline=True)
    except BackboneError:
        return resolve(model_id, revision=revision)


def _skeleton(recipe: Recipe, config: BridgeConfig, options: LoadOptions) -> Skeleton:
    encoder, language_model = (_source(recipe, name) for name in ("encoder", "language_model"))
    of_encoder = load_config("encoder", encoder, options)
    causal = causal_config(language_model, options)
    arguments: dict[str, Any] = {"dtype": options.torch_dtype}
    if options.attn_implementation is not None:
        arguments["attn_implementation"] = options.attn_implementation
    if options.trust_remote_code:
        arguments["trust_remote_code"] = True
    build = partial(AutoModelForCausalLM.from_config, causal, **arguments)
    try:
        return Skeleton.build(
            config,
            partial(build_text_encoder, encoder, of_encoder, options),
            partial(load, "language model", language_model, build),
        )
    except (RuntimeError, TypeError, NotImplementedError) as error:
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackboneError(
            f"the models cannot be tried without their weights ({problem})",
            hint="leave --dry-run out, and watch the memory of a run with --max-steps 1",
        ) from error


def _memory(weights: dict[str, int], trained: int, step: StepMemory) -> dict[str, int]:
    return {
        "encoder weights": weights["encoder"],
        "language model weights": weights["language model"],
        "bridge weights": weights["bridge"],
        "optimizer": trained * TRAINING_BYTES,
        "encoder states": step.states,
        "fusion and projection": step.fusion,
        "language model activations": step.activations,
        "logits": step.logits,
        "backward": max(0, step.backward - step.logits),
        # The encoder's own, if that is more than all that comes after it.
        "encoding": max(0, step.states + step.encoding - step.after),
    }


def _bits(recipe: Recipe) -> float | None:
    """Returns the bits of a quantized number; None if the recipe quantizes nothing."""
    choice = recipe.backbones.get("quantization_config")
    for name, bits in (("4bit", FOUR_BITS), ("8bit", EIGHT_BITS)):
        if recipe.backbones.get(f"load_in_{name}") or choice == name:
            return bits
    return None


def _parameters(skeleton: Skeleton) -> dict[str, int]:
    numbers = {
        "encoder": count(skeleton.encoder),
        "language model": count(skeleton.language_model),
        "fusion": count(skeleton.fusion),
        "projection": count(skeleton.projection),
    }
    return {
        **numbers,
        "trained": skeleton.trained,
        "frozen": numbers["encoder"] + numbers["language model"],
    }


def _disk(
    recipe: Recipe,
    rows: PlannedRows,
    arguments: BridgeTrainingArguments,
    skeleton: Skeleton,
    *,
    lengths: TokenLengths,
    folder: Path,
    dtype: torch.dtype,
) -> dict[str, int]:
    bridge = skeleton.weight_bytes()["bridge"]
    # The best checkpoint may be kept besides the last ones.
    kept = (arguments.save_total_limit or 1) + bool(arguments.load_best_model_at_end)
    kept = 0 if arguments.save_strategy == "no" else kept
    disk = {
        "checkpoints": kept * (bridge + skeleton.trained * (TRAINING_BYTES - 4)),
        "trained bridge": bridge,
    }
    if recipe.cache_states:
        layers, width = len(skeleton.fusion.required_layers), skeleton.fusion.width
        texts = rows.training + rows.validation
        disk["cached states"] = round(lengths.mean_text * texts * layers * width * dtype.itemsize)
    if rows.copy_bytes:
        disk["copy of the rows"] = rows.copy_bytes
    disk["free"] = shutil.disk_usage(nearest_existing(folder)).free
    return disk


def _available(device: str) -> int | None:
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if kind != "cpu":
        return None
    own = psutil.Process().memory_info().rss
    free = psutil.virtual_memory().available + own
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        try:  # a container's limit
            free = min(free, int(Path("/sys/fs/cgroup", file).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return free
