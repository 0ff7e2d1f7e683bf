"""A training run: recipe → rows → bridge → trained checkpoint with its model card."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy, get_last_checkpoint

from layerbridge.errors import ConfigError
from layerbridge.hub.sources import resolve
from layerbridge.models import fusion
from layerbridge.models.backbone import LoadOptions, choose_device
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.model_card import model_card
from layerbridge.models.placement import offloaded
from layerbridge.progress import meter, say
from layerbridge.tasks.stored_rows import StoredRows, Texts, sample
from layerbridge.training import examples
from layerbridge.training.arguments import BridgeTrainingArguments, SpreadTrainingArguments
from layerbridge.training.defaults import FUSION, complete, watched
from layerbridge.training.floor import most_frequent_share, tf_idf_accuracy
from layerbridge.training.interrupt import Interruption
from layerbridge.training.language_watch import LanguageWatch, watched_rows
from layerbridge.training.lost_process import others_needed
from layerbridge.training.node import agreed_dtype, check_device
from layerbridge.training.noise import check_dropout
from layerbridge.training.outcome import Outcome
from layerbridge.training.output import check_output, prepare_output, write_log
from layerbridge.training.precompute import StatePrecomputer
from layerbridge.training.progress_callback import ProgressCallback
from layerbridge.training.recipe import Recipe, read, reject_unknown
from layerbridge.training.resume import (
    RowsRecord,
    begin_at,
    check_resumable,
    check_same_run,
    own_recipe,
    resume_command,
    with_same_steps,
)
from layerbridge.training.run_data import RunData, read_data
from layerbridge.training.sharded import sharded_backbones
from layerbridge.training.shared_start import record_start
from layerbridge.training.step_size import StepSize
from layerbridge.training.text_counts import TextCounts, log_entry, notes
from layerbridge.training.trainer import BridgeTrainer
from layerbridge.training.transfer import SAMPLED, check_transfer, transfer
from layerbridge.training.weight_watch import TEXTS, WeightWatch


def training_arguments(
    settings: Mapping[str, Any],
    output_dir: Path,
    *,
    device: str | None = None,
    spread: bool = False,
) -> BridgeTrainingArguments:
    """Returns the Trainer's arguments.

    Args:
        settings: arguments by name.
        output_dir: of the run.
        device: of the run; ``"cpu"`` keeps the Trainer off an available GPU.
        spread: the backbones are spread over devices by a map.

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
    cls = SpreadTrainingArguments if spread else BridgeTrainingArguments
    return cls(output_dir=str(output_dir), **settings)


def new_bridge(
    recipe: Recipe,
    data: RunData,
    device: str | None = None,
    *,
    backbones: tuple[Encoder, LanguageModel] | None = None,
    resume: bool = False,
    shard: bool = False,
) -> LayerBridge:
    """Returns the recipe's bridge, untrained.

    Args:
        recipe: has passed ``check``.
        data: the training rows start the projection.
        device: of the backbones that are loaded here.
        backbones: already loaded ones.
        resume: leave the start to the checkpoint that is loaded next.
        shard: divide the layers of a language model that is loaded here among the processes.
    """
    assert recipe.encoder is not None
    assert recipe.language_model is not None
    texts = None if resume else Texts(sample(data.train, SAMPLED))[:]
    settings: dict[str, Any] = {
        "encoder": recipe.encoder,
        "language_model": recipe.language_model,
        "fusion": FUSION,
        **recipe.bridge,
        "options": data.options,
        "template": data.template,
    }
    if shard and backbones is None:
        backbones = sharded_backbones(settings, recipe.backbones, device)
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
    recipe: Recipe | str | Path | None,
    output_dir: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    device: str | None = None,
) -> LayerBridge:
    """Trains a bridge and writes the checkpoint, the recipe and the log to a folder.

    Ctrl-C and SIGTERM save a checkpoint first; a second one ends at once.

    Args:
        recipe: a recipe, its YAML file, or the name of a shipped one; None with ``resume``: the
            run's own.
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
        Interrupted: a ``KeyboardInterrupt`` that says how to continue.
    """
    with others_needed():
        return _train(recipe, output_dir, overwrite=overwrite, resume=resume, device=device)


def _train(
    recipe: Recipe | str | Path | None,
    output_dir: str | Path,
    *,
    overwrite: bool,
    resume: bool,
    device: str | None,
) -> LayerBridge:
    if recipe is None:
        recipe = own_recipe(Path(output_dir), resume=resume)
    elif not isinstance(recipe, Recipe):
        recipe = read(recipe)
    recipe.check()
    name = recipe.bridge.get("fusion", FUSION)
    if name not in fusion.names():
        raise ConfigError(f"unknown fusion {name!r}", allowed=fusion.names())
    BridgeConfig(**recipe.bridge)  # checks the settings before anything is read
    check_device(device)
    LoadOptions.of(recipe.backbones, choose_device(device))
    spread = recipe.backbones.get("device_map") is not None
    folder = Path(output_dir)
    # Before rows are read; which validation there is does not decide whether they are valid.
    arguments = training_arguments(watched(recipe.training), folder, device=device, spread=spread)
    if recipe.cache_states:
        arguments.check_cached()
    check_transfer(recipe, arguments)
    if arguments.should_save:
        check_output(folder, overwrite=overwrite, resume=resume)
    data = read_data(recipe)
    if recipe.training.get("eval_strategy", "no") != "no" and not data.validation:
        raise ConfigError(
            f"eval_strategy={recipe.training['eval_strategy']!r} needs validation rows",
            hint="--validation-data FILE, or leave it out",
        )
    recipe = complete(recipe, data)
    if resume:
        recipe = with_same_steps(recipe, folder, arguments.world_size)
    arguments = training_arguments(recipe.training, folder, device=device, spread=spread)
    if resume:
        check_same_run(recipe, data.train, folder, processes=arguments.world_size)
    for backbone in ("encoder", "language_model"):
        # A misspelled id is reported before the other model is loaded.
        resolve(getattr(recipe, backbone), revision=recipe.backbones.get(f"{backbone}_revision"))
    data.report()
    number, unit = arguments.max_steps, "step"
    if number <= 0:
        number, unit = arguments.num_train_epochs, "epoch"
    length = f"{number:g} {unit}{'' if number == 1 else 's'}"
    say(f"{len(data.train)} English rows of {data.name}, {length}; loading the models …")
    # Before the bridge is built: its random start is part of the run.
    set_seed(arguments.seed if arguments.start_seed is None else arguments.start_seed)
    device = device or str(arguments.device)
    dtype = agreed_dtype(recipe.backbones.get("dtype", "auto"), device)
    bridge = new_bridge(
        replace(recipe, backbones={**recipe.backbones, "dtype": dtype}),
        data,
        device,
        resume=resume,
        shard=arguments.shards_language_model,
    )
    if resume:
        check_resumable(bridge, folder)
    then = resume_command(folder, arguments.world_size)
    return train_bridge(bridge, recipe, data, arguments, folder, resume=resume, then=then)


def train_bridge(
    bridge: LayerBridge,
    recipe: Recipe,
    data: RunData,
    arguments: BridgeTrainingArguments,
    folder: Path,
    *,
    resume: bool = False,
    then: str | None = None,
) -> LayerBridge:
    """Trains a bridge on rows that are already loaded, as ``train``; replaces the folder's run.

    Ctrl-C and SIGTERM save a checkpoint if ``then`` tells how to continue from it.
    """
    started = time.monotonic()
    check_dropout(arguments, bridge)
    # Before the Trainer, which creates the folder.
    precomputer = None
    if recipe.cache_states:
        texts: Sequence[str] = Texts(data.train)
        if not isinstance(data.train, StoredRows):  # else those of validation come when first read
            texts = [*texts, *(Texts(data.validation) if arguments.do_eval else [])]
        precomputer = StatePrecomputer(
            bridge.encoder,
            texts,
            folder,
            layers=bridge.fusion.required_layers,
        )
    trainer = BridgeTrainer(bridge, arguments, data.train, data.validation)
    counts = _text_counts(trainer, data)
    if resume:
        begin_at(folder, trainer.total_steps)
    if arguments.should_save:
        prepare_output(folder, overwrite=not resume, resume=resume)
        recipe.write(folder)
    trainer.accelerator.wait_for_everyone()
    record_start(bridge, folder, resume=resume)
    with ExitStack() as stack:
        stack.enter_context(
            others_needed(lambda: then if get_last_checkpoint(str(folder)) else None)
        )
        if precomputer is not None:
            stack.enter_context(precomputer.cached())
        options = stack.enter_context(transfer(trainer, recipe, data, folder))
        if not arguments.disable_tqdm:
            bar = stack.enter_context(meter(f"training {bridge.config.fusion}"))
            trainer.add_callback(ProgressCallback(bar))
        size = StepSize.of(recipe.training, arguments.world_size)
        trainer.add_callback(RowsRecord(data.train, size))
        texts = Texts((data.validation or data.train)[:TEXTS])
        weights = WeightWatch(bridge, texts, folder, trainer.callback_handler.callbacks)
        trainer.add_callback(weights)
        if arguments.report_to and arguments.do_eval and (watched := watched_rows(recipe)):
            trainer.add_callback(LanguageWatch(trainer, watched))
        if then is not None:
            trainer.interruption = stack.enter_context(Interruption(then))
        # Its states are read already: a GPU's memory is the language model's.
        with nullcontext() if precomputer is None else offloaded(bridge.encoder.model):
            trainer.train(resume_from_checkpoint=resume or None)
        options.finish()
        # In every process: validation is shared work.
        kept = None if arguments.eval_strategy == IntervalStrategy.NO else _kept(trainer)
        if trainer.is_world_process_zero():
            _report(trainer, kept, weights.weights, data)
        # Also in every process: they may hold parts of the language model.
        bridge.config.usual_any_option = (kept or {}).get(
            "eval_any_option"
        ) or examples.usual_any_option(bridge, data.validation)
        if arguments.should_save:
            options.keep_means()
            bridge.card = model_card(
                bridge.config,
                data=data.name,
                rows=len(data.train),
                settings=recipe.training,
                steps=trainer.state.global_step,
                seconds=time.monotonic() - started,
                dataset=data.dataset,
            )
            bridge.save_pretrained(folder)
            examples.write(examples.chosen(data.validation), folder)
            write_log([log_entry(counts), *trainer.state.log_history], folder)
        trainer.accelerator.wait_for_everyone()
    return bridge.eval()


def _text_counts(trainer: BridgeTrainer, data: RunData) -> dict[str, TextCounts]:
    """Returns the counts of texts by split, and says what is cut or empty."""
    splits = {"training": (data.train, trainer.train_dataset)}
    if trainer.eval_dataset is not None:
        splits["validation"] = (data.validation, trainer.eval_dataset)
    counts = {
        split: TextCounts.of(dataset.counted, data.columns, cut=dataset.cut, all_rows=len(rows))
        for split, (rows, dataset) in splits.items()
    }
    for line in notes(counts, trainer.model.encoder.max_text_tokens):
        say(line)
    return counts


def _report(
    trainer: BridgeTrainer,
    kept: Mapping[str, float] | None,
    weights: Sequence[float],
    data: RunData,
) -> None:
    """Prints what the bridge has achieved, and what to do if it is little."""
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    first = trainer.model.encoder.first_layer
    outcome = Outcome(0, losses=losses, weights=weights, first_layer=first)
    if kept is not None:
        rows = data.validation
        accuracy = kept.get("eval_accuracy")
        labeled = accuracy is not None
        outcome = replace(
            outcome,
            rows=len(rows),
            loss=kept["eval_loss"],
            accuracy=accuracy,
            tf_idf=tf_idf_accuracy(data.train, rows) if labeled else None,
            most_frequent=most_frequent_share(rows) if labeled else 0.0,
        )
    summary = outcome.summary()
    if summary is not None:
        say(summary)
    for doubt in outcome.doubts():
        say(f"note: {doubt}")


def _kept(trainer: BridgeTrainer) -> dict[str, float]:
    """Returns the validation of the bridge that is kept, and says which that is."""
    state = trainer.state
    validations = {entry["step"]: entry for entry in state.log_history if "eval_loss" in entry}
    if trainer.args.average_last:
        return trainer.evaluate()  # the average is that of no step
    if trainer.args.load_best_model_at_end and state.best_metric is not None:
        step = state.best_global_step
        if step < state.global_step:
            say(f"kept: the bridge of step {step}, which has the lowest validation loss")
        return validations[step]
    if state.global_step not in validations:
        return trainer.evaluate()
    return validations[state.global_step]
