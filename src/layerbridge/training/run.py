"""A training run: recipe → rows → bridge → trained checkpoint with its model card."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, set_seed

from layerbridge.errors import ConfigError
from layerbridge.hub.sources import resolve
from layerbridge.models import fusion
from layerbridge.models.backbone import choose_device
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.centering import Centering
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.model_card import model_card
from layerbridge.progress import Meter, meter, say
from layerbridge.tasks.unlabeled import text_files
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.language_centering import training_means
from layerbridge.training.noise import check_noise, needs_means, state_noise
from layerbridge.training.output import check_output, prepare_output, write_log
from layerbridge.training.precompute import StatePrecomputer
from layerbridge.training.recipe import Recipe, read, reject_unknown
from layerbridge.training.resume import RowsRecord, check_resumable, check_same_run, check_steps
from layerbridge.training.run_data import RunData, read_data
from layerbridge.training.shared_start import record_start
from layerbridge.training.text_counts import TextCounts, log_entry, notes
from layerbridge.training.trainer import BridgeTrainer
from layerbridge.training.weight_average import AverageLast
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
        LayerBridgeError: an unknown name, a value that is not valid, or an argument without a use.
    """
    if device == "cpu":
        settings = {**settings, "use_cpu": True}
    names = [item.name for item in dataclasses.fields(BridgeTrainingArguments)]
    for name in settings:
        reject_unknown("training argument", name, names)
        if name == "output_dir":
            raise ConfigError("output_dir is not a training argument here", hint="--output FOLDER")
    return BridgeTrainingArguments(output_dir=str(output_dir), **settings)


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
        bridge = LayerBridge.from_parts(BridgeConfig(**settings), *backbones, texts=texts)
        limit = backbones[0].max_text_tokens
    else:
        bridge = LayerBridge.from_backbones(
            **settings, **recipe.backbones, device=device, texts=texts
        )
        limit = bridge.encoder.most_tokens
    asked = recipe.bridge.get("max_text_tokens") or 0
    # A lower limit is the language model's, and has been said.
    if asked > limit == bridge.config.max_text_tokens:
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
        resume: continue from the last checkpoint in the folder, with the settings of its run;
            epochs, steps, logging, saving and validation may change.
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
    if device is not None:
        choose_device(device)
    settings = {**_validation(recipe), **recipe.training}
    arguments = training_arguments(settings, Path(output_dir), device=device)
    if recipe.cache_states:
        arguments.check_cached()
    check_noise(arguments, language_texts=recipe.language_texts is not None)
    if recipe.language_texts is not None:
        text_files(recipe.language_texts)
    folder = Path(output_dir)
    if arguments.should_save:
        check_output(folder, overwrite=overwrite, resume=resume)
    data = read_data(recipe)
    if arguments.eval_strategy != "no" and not data.validation:
        raise ConfigError(
            f"eval_strategy={str(arguments.eval_strategy.value)!r} needs validation rows",
            hint="--validation-data FILE, or leave it out",
        )
    if resume:
        check_same_run(recipe, data.train, folder)
    for backbone in ("encoder", "language_model"):
        # A misspelled id is reported before the other model is loaded.
        resolve(getattr(recipe, backbone), revision=recipe.backbones.get(f"{backbone}_revision"))
    data.report()
    say(f"{len(data.train)} English rows of {data.name}; loading the models …")
    # Before the bridge is built: its random start is part of the run.
    set_seed(arguments.seed if arguments.start_seed is None else arguments.start_seed)
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
    trainer = BridgeTrainer(bridge, arguments, data.train, data.validation)
    splits = {"training": (data.train, trainer.train_dataset)}
    if trainer.eval_dataset is not None:
        splits["validation"] = (data.validation, trainer.eval_dataset)
    counts = {
        split: TextCounts.of(rows, data.columns, cut=dataset.cut)
        for split, (rows, dataset) in splits.items()
    }
    for line in notes(counts, bridge.encoder.max_text_tokens):
        say(line)
    if resume:
        check_steps(folder, trainer.total_steps)
    if arguments.should_save:
        prepare_output(folder, overwrite=not resume, resume=resume)
        recipe.write(folder)
    trainer.accelerator.wait_for_everyone()
    record_start(bridge, folder, resume=resume)
    means, bridge.centering = None, None
    with ExitStack() as stack:
        if precomputer is not None:
            stack.enter_context(precomputer.cached())
        keeps_means = recipe.language_centering or recipe.language_texts is not None
        if keeps_means or needs_means(arguments):
            english = [row.text for row in data.train]
            means = training_means(bridge, english, recipe.language_texts, data.template)
        bridge.noise = state_noise(arguments, bridge, means)
        stack.callback(setattr, bridge, "noise", None)
        if not arguments.disable_tqdm:
            bar = stack.enter_context(meter(f"training {bridge.config.fusion}"))
            trainer.add_callback(_Progress(bar))
        trainer.add_callback(RowsRecord(data.train))
        watched = [row.text for row in data.validation or data.train]
        trainer.add_callback(WeightWatch(bridge, watched, folder))
        average = None
        if arguments.average_last:
            average = AverageLast(bridge, arguments.average_last, folder)
            trainer.add_callback(average)
        trainer.train(resume_from_checkpoint=resume or None)
        if average is not None:
            average.finish()
        _report_validation(trainer, len(data.validation), averaged=average is not None)
    if means is not None and keeps_means:
        bridge.centering = Centering(means, bridge.encoder.num_layers)
    if arguments.should_save:
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
    trainer.accelerator.wait_for_everyone()
    return bridge.eval()


def _validation(recipe: Recipe) -> dict[str, Any]:
    """Returns the arguments that validation rows imply: they are there to be watched."""
    if recipe.validation_data is None:
        return {}
    return {"eval_strategy": "steps" if "eval_steps" in recipe.training else "epoch"}


def _report_validation(trainer: BridgeTrainer, rows: int, *, averaged: bool) -> None:
    """Prints the validation loss of the bridge as it is at the end."""
    if trainer.args.eval_strategy == "no":
        return
    state = trainer.state
    losses = {entry["step"]: entry["eval_loss"] for entry in state.log_history
              if "eval_loss" in entry}  # fmt: skip
    if trainer.args.load_best_model_at_end and state.best_metric is not None:
        loss = state.best_metric
    elif state.global_step in losses and not averaged:
        loss = losses[state.global_step]
    else:
        loss = trainer.evaluate()["eval_loss"]
    say(f"validation loss: {loss:.3f}, mean of {rows} rows")


class _Progress(TrainerCallback):
    """Updates a meter at every step, with the losses that were logged last."""

    def __init__(self, bar: Meter) -> None:
        self.bar = bar
        self.note = ""
        self.losses: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        names = {"loss": "loss", "eval_loss": "validation loss"}
        self.losses |= {names[name]: float(logs[name]) for name in names if name in (logs or ())}
        self.note = ", ".join(f"{name} {loss:.3f}" for name, loss in self.losses.items())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # The last step is left to on_train_end, when its loss is logged.
        if state.global_step < state.max_steps:
            self.bar.update(state.global_step, state.max_steps, self.note)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(state.global_step, state.max_steps, self.note)
