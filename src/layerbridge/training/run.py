"""A training run: recipe → rows → bridge → trained checkpoint with its model card."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, set_seed
from transformers.integrations import get_reporting_integration_callbacks

from layerbridge.errors import ConfigError, LayerBridgeError
from layerbridge.hub.sources import resolve
from layerbridge.models import fusion
from layerbridge.models.backbone import choose_device
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.model_card import model_card
from layerbridge.progress import Meter, meter, say
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.output import check_output, check_resumable, prepare_output, write_log
from layerbridge.training.precompute import StatePrecomputer
from layerbridge.training.recipe import Recipe, read, reject_unknown
from layerbridge.training.run_data import RunData, read_data
from layerbridge.training.text_counts import TextCounts, log_entry, notes
from layerbridge.training.trainer import BridgeTrainer
from layerbridge.training.weight_watch import WeightWatch

DEFAULT_FUSION = "token-softmax"


def training_arguments(
    settings: Mapping[str, Any], output_dir: Path, *, device: str | None = None
) -> BridgeTrainingArguments:
    """Returns the Trainer's arguments.

    Args:
        settings: arguments by name.
        output_dir: of the run.
        device: of the run; ``"cpu"`` keeps the Trainer off an available GPU.

    Raises:
        ConfigError: an unknown name, or a value that the Trainer rejects.
    """
    if device == "cpu":
        settings = {**settings, "use_cpu": True}
    fields = {item.name: item for item in dataclasses.fields(BridgeTrainingArguments)}
    for name, value in settings.items():
        reject_unknown("training argument", name, fields)
        if name == "output_dir":
            raise ConfigError("output_dir is not a training argument here", hint="--output FOLDER")
        default = fields[name].default
        if isinstance(default, bool) and value not in (True, False):
            raise ConfigError(f"{name}={value!r} must be true or false")
        if isinstance(default, (int, float)) and isinstance(value, str):
            raise ConfigError(f"{name}={value!r} is not a number")
    try:
        arguments = BridgeTrainingArguments(output_dir=str(output_dir), **settings)
        get_reporting_integration_callbacks(arguments.report_to)
        return arguments
    except LayerBridgeError:
        raise
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"invalid training arguments: {error}") from error


def new_bridge(
    recipe: Recipe,
    data: RunData,
    device: str | None = None,
    *,
    backbones: tuple[Encoder, LanguageModel] | None = None,
    resume: bool = False,
) -> LayerBridge:
    """Returns the recipe's bridge, untrained.

    Args:
        recipe: has passed ``check``.
        data: the training rows start the projection.
        device: of the backbones that are loaded here.
        backbones: already loaded ones.
        resume: leave the start to the checkpoint that is loaded next.
    """
    assert recipe.encoder is not None
    assert recipe.language_model is not None
    texts = None if resume else [row.text for row in data.train]
    settings: dict[str, Any] = {
        "encoder": recipe.encoder,
        "language_model": recipe.language_model,
        "fusion": DEFAULT_FUSION,
        **recipe.bridge,
        "options": data.options,
        "template": data.template,
    }
    if backbones is not None:
        return LayerBridge.from_parts(BridgeConfig(**settings), *backbones, texts=texts)
    bridge = LayerBridge.from_backbones(**settings, **recipe.backbones, device=device, texts=texts)
    asked, limit = recipe.bridge.get("max_text_tokens") or 0, bridge.config.max_text_tokens
    if asked > limit:
        say(f"max_text_tokens is lowered from {asked} to {limit}, the encoder's limit")
    return bridge


def train(
    recipe: Recipe | str | Path,
    output_dir: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    device: str | None = None,
) -> LayerBridge:
    """Trains a bridge and writes the checkpoint, the recipe and the log to a folder.

    Args:
        recipe: a recipe, its YAML file, or the name of a shipped one.
        output_dir: created if it does not exist.
        overwrite: write to a folder that is not empty.
        resume: continue from the last checkpoint in the folder.
        device: ``"cpu"``, ``"cuda"``, …; None takes the best available.

    Returns:
        The trained bridge, in eval mode.

    Raises:
        LayerBridgeError: invalid settings, data or models; where possible before anything is
            written.
    """
    if not isinstance(recipe, Recipe):
        recipe = read(recipe)
    recipe.check()
    name = recipe.bridge.get("fusion", DEFAULT_FUSION)
    if name not in fusion.names():
        raise ConfigError(f"unknown fusion {name!r}", allowed=fusion.names())
    BridgeConfig(**recipe.bridge)  # checks the settings before anything is read
    data = read_data(recipe)
    if device is not None:
        choose_device(device)
    arguments = training_arguments(recipe.training, Path(output_dir), device=device)
    if arguments.gradient_checkpointing:
        raise ConfigError(
            "gradient_checkpointing has no effect: the language model stays in eval mode",
            hint="leave it out; a smaller batch with --gradient-accumulation-steps saves memory",
        )
    if recipe.cache_states:
        arguments.check_cached()
    if arguments.eval_strategy != "no" and not data.validation:
        raise ConfigError(
            f"eval_strategy={str(arguments.eval_strategy.value)!r} needs validation rows",
            hint="--validation-data FILE, or leave it out",
        )
    folder = check_output(output_dir, overwrite=overwrite, resume=resume)
    for backbone in ("encoder", "language_model"):
        # A misspelled id is reported before the other model is loaded.
        resolve(getattr(recipe, backbone), revision=recipe.backbones.get(f"{backbone}_revision"))
    data.report()
    say(f"{len(data.train)} English rows of {data.name}; loading the models …")
    # Before the bridge is built: its random start is part of the run.
    set_seed(arguments.seed)
    bridge = new_bridge(recipe, data, device or str(arguments.device), resume=resume)
    if resume:
        check_resumable(bridge, folder)
    return train_bridge(bridge, recipe, data, arguments, folder, resume=resume)


def train_bridge(
    bridge: LayerBridge,
    recipe: Recipe,
    data: RunData,
    arguments: BridgeTrainingArguments,
    folder: Path,
    *,
    resume: bool = False,
) -> LayerBridge:
    """Trains a bridge on rows that are already loaded, as ``train``; replaces the folder's run."""
    started = time.monotonic()
    # Before the Trainer, which creates the folder.
    precomputer = None
    if recipe.cache_states:
        rows = [*data.train, *(data.validation if arguments.do_eval else [])]
        precomputer = StatePrecomputer(
            bridge.encoder,
            [row.text for row in rows],
            folder,
            layers=bridge.fusion.required_layers,
        )
    try:
        trainer = BridgeTrainer(bridge, arguments, data.train, data.validation)
    except LayerBridgeError:
        raise
    except (ValueError, ImportError, RuntimeError) as error:
        # For example a reporter whose package is not installed.
        raise ConfigError(f"invalid training arguments: {error}") from error
    splits = {"training": (data.train, trainer.train_dataset)}
    if trainer.eval_dataset is not None:
        splits["validation"] = (data.validation, trainer.eval_dataset)
    counts = {
        split: TextCounts.of(rows, data.columns, cut=dataset.cut)
        for split, (rows, dataset) in splits.items()
    }
    for line in notes(counts, bridge.encoder.max_text_tokens):
        say(line)
    prepare_output(folder, overwrite=not resume, resume=resume)
    recipe.write(folder)
    with ExitStack() as stack:
        if precomputer is not None:
            stack.enter_context(precomputer.cached())
        bar = stack.enter_context(meter(f"training {bridge.config.fusion}"))
        trainer.add_callback(_Progress(bar))
        watched = [row.text for row in data.validation or data.train]
        trainer.add_callback(WeightWatch(bridge, watched, folder))
        trainer.train(resume_from_checkpoint=resume or None)
    bridge.card = model_card(
        bridge.config,
        data=data.name,
        rows=len(data.train),
        settings=recipe.training,
        steps=trainer.state.global_step,
        seconds=time.monotonic() - started,
    )
    bridge.save_pretrained(folder)
    write_log([log_entry(counts), *trainer.state.log_history], folder)
    return bridge.eval()


class _Progress(TrainerCallback):
    """Updates a meter at every step, with the last logged loss."""

    def __init__(self, bar: Meter) -> None:
        self.bar = bar
        self.note = ""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.note = f"loss {float(logs['loss']):.3f}"

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # The last step is left to on_train_end, when its loss is logged.
        if state.global_step < state.max_steps:
            self.bar.update(state.global_step, state.max_steps, self.note)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(state.global_step, state.max_steps, self.note)
