"""A training run: recipe → rows → bridge → trained checkpoint, and a card that tells of it.

It strings the rooms together; each of them does its own work.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, set_seed
from transformers.integrations import get_reporting_integration_callbacks

from layerbridge import tasks
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
from layerbridge.tasks import Row
from layerbridge.tasks.files import read_rows
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.output import check_output, check_resumable, prepare_output, write_log
from layerbridge.training.precompute import StatePrecomputer
from layerbridge.training.recipe import Recipe, reject_unknown
from layerbridge.training.trainer import BridgeTrainer
from layerbridge.training.weight_watch import WeightWatch

DEFAULT_FUSION = "token-softmax"


@dataclasses.dataclass(frozen=True)
class RunData:
    """What a run trains on: English rows, and what is known about them.

    Attributes:
        train: to train on.
        validation: to watch the loss on; may be empty.
        options: the label words, if there are any.
        template: the prompt of the encoder's texts.
        name: of the task or the data.
        dropped: rows that were left out, by split, because they would give an answer away.
    """

    train: list[Row]
    validation: list[Row]
    options: list[str] | None
    template: str | None
    name: str
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def tell_dropped(self) -> None:
        """Says how many rows were left out and why, where any were."""
        if self.dropped:
            counts = ", ".join(f"{number} of {split}" for split, number in self.dropped.items())
            say(f"rows left out: {counts}; English validation or test has the same texts")


def read_data(recipe: Recipe) -> RunData:
    """The rows that a recipe names.

    Raises:
        DataError: they cannot be read.
    """
    options: list[str] | None
    template: str | None
    if recipe.task is not None:
        task = tasks.get(recipe.task, **recipe.task_options)
        train, validation = task.train(), task.validation()
        options, template = list(task.options), task.template
        name, dropped = task.name, task.dropped()
    else:
        assert recipe.data is not None
        columns: dict[str, Any] = {
            "text": recipe.text,
            "target": recipe.target,
            "template": recipe.template,
            "options": recipe.options,
        }
        train = read_rows(recipe.data, **columns)
        validation = read_rows(recipe.validation_data, **columns) if recipe.validation_data else []
        options, template = recipe.options, recipe.template
        name, dropped = recipe.data, {}
    return RunData(train[: recipe.max_rows], validation, options, template, name, dropped)


def training_arguments(settings: dict[str, Any], output_dir: Path) -> BridgeTrainingArguments:
    """``settings`` as the Trainer takes them.

    Raises:
        ConfigError: an unknown name, or a value that the Trainer does not take.
    """
    fields = {item.name: item for item in dataclasses.fields(BridgeTrainingArguments)}
    for name, value in settings.items():
        reject_unknown("training argument", name, fields)
        if name == "output_dir":
            raise ConfigError("output_dir is no training argument here", hint="--output-dir FOLDER")
        default = fields[name].default
        if isinstance(default, bool):
            if value not in (True, False):
                raise ConfigError(f"{name}={value!r} is no truth value", allowed="true, false")
        elif isinstance(default, (int, float)) and isinstance(value, str):
            raise ConfigError(f"{name}={value!r} is no number", allowed="a number")
    try:
        arguments = BridgeTrainingArguments(**{"output_dir": str(output_dir), **settings})
        get_reporting_integration_callbacks(arguments.report_to)
        return arguments
    except LayerBridgeError:
        raise
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"the training arguments do not fit: {error}") from error


def new_bridge(
    recipe: Recipe,
    data: RunData,
    device: str | None = None,
    *,
    backbones: tuple[Encoder, LanguageModel] | None = None,
) -> LayerBridge:
    """An untrained bridge as the recipe wants it, its projection started.

    Args:
        recipe: that was checked.
        data: what it will be trained on.
        device: of the backbones that are loaded here.
        backbones: the recipe's, where they are loaded already.
    """
    assert recipe.encoder is not None
    assert recipe.language_model is not None
    texts = [row.text for row in data.train]
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
    return LayerBridge.from_backbones(**settings, **recipe.backbones, device=device, texts=texts)


def train(
    recipe: Recipe,
    output_dir: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    device: str | None = None,
) -> LayerBridge:
    """Trains as the recipe says and leaves the checkpoint, the recipe and the log in a folder.

    Args:
        recipe: checked first.
        output_dir: made if it is not there.
        overwrite: write into a folder that is not empty.
        resume: go on from the last checkpoint in it.
        device: ``"cpu"``, ``"cuda"``, …; None takes the best there is.

    Raises:
        LayerBridgeError: whatever a user can mend, before anything is written where possible.
    """
    recipe.check()
    name = recipe.bridge.get("fusion", DEFAULT_FUSION)
    if name not in fusion.names():
        raise ConfigError(f"unknown fusion {name!r}", allowed=fusion.names())
    BridgeConfig(**recipe.bridge)  # says what does not fit before anything is read
    data = read_data(recipe)
    if device is not None:
        choose_device(device)
    # Without it the Trainer would take a GPU that is there.
    only_cpu = {"use_cpu": True} if device == "cpu" else {}
    arguments = training_arguments({**recipe.training, **only_cpu}, Path(output_dir))
    if arguments.gradient_checkpointing:
        raise ConfigError(
            "gradient_checkpointing has nothing to act on: the language model stays in eval mode",
            hint="leave it out; a smaller batch with --gradient-accumulation-steps saves memory",
        )
    if recipe.cache_states:
        arguments.check_cached()
    if arguments.eval_strategy != "no" and not data.validation:
        raise ConfigError(
            f"eval_strategy={str(arguments.eval_strategy.value)!r} has no rows to evaluate on",
            hint="--validation-data FILE, or leave it out",
        )
    folder = check_output(output_dir, overwrite=overwrite, resume=resume)
    for backbone in ("encoder", "language_model"):
        # A misspelt id costs no waiting for the other model, and is told alone.
        resolve(getattr(recipe, backbone), revision=recipe.backbones.get(f"{backbone}_revision"))
    data.tell_dropped()
    say(f"{len(data.train)} English rows of {data.name}; reading the backbones …")
    # The bridge's random starts are part of the run as well.
    set_seed(arguments.seed)
    bridge = new_bridge(recipe, data, device)
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
    """The same for a bridge and rows that are at hand; what is in the folder may be replaced."""
    started = time.monotonic()
    # Before the Trainer, which makes the folder.
    ahead = None
    if recipe.cache_states:
        rows = [*data.train, *(data.validation if arguments.do_eval else [])]
        texts = [row.text for row in rows]
        ahead = StatePrecomputer(
            bridge.encoder, texts, folder, layers=bridge.fusion.required_layers
        )
    try:
        trainer = BridgeTrainer(bridge, arguments, data.train, data.validation)
    except LayerBridgeError:
        raise
    except (ValueError, ImportError, RuntimeError) as error:
        # A reporter or an option whose package is not installed, and the like.
        raise ConfigError(f"the training arguments do not fit: {error}") from error
    prepare_output(folder, overwrite=not resume, resume=resume)
    recipe.write(folder)
    with ExitStack() as during:
        if ahead is not None:
            # In mixed precision the encoder reads as it would within a step.
            with trainer.accelerator.autocast():
                during.enter_context(ahead.cached())
        bar = during.enter_context(meter(f"training {bridge.config.fusion}"))
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
    write_log(trainer.state.log_history, folder)
    return bridge.eval()


class _Progress(TrainerCallback):
    """Tells a meter of every step, with the last loss that was logged."""

    def __init__(self, bar: Meter) -> None:
        self.bar = bar
        self.note = ""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.note = f"loss {float(logs['loss']):.3f}"

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # The last step is told at the end, when its loss is logged.
        if state.global_step < state.max_steps:
            self.bar.update(state.global_step, state.max_steps, self.note)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(state.global_step, state.max_steps, self.note)
