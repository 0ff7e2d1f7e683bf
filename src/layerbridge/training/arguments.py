"""Training arguments: transformers' own, with defaults that train a bridge."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_utils import SaveStrategy, SchedulerType
from transformers.training_args import OptimizerNames

from layerbridge.errors import ConfigError, LayerBridgeError, TrainingError
from layerbridge.progress import say, say_once
from layerbridge.training.argument_checks import (
    checked,
    hints,
    is_default,
    reject_idle,
    reject_unsupported,
)

# These decide what the optimizer and the schedule are built with.
_ADAM = {"adam_beta1": "betas", "adam_beta2": "betas", "adam_epsilon": "eps"}
_OPTIMIZATION = {*_ADAM, "optim", "optim_args", "lr_scheduler_type", "lr_scheduler_kwargs"}
# What other packages raise about a setting.
_FOREIGN = (
    *(ValueError, TypeError, LookupError, AttributeError),
    *(OSError, RuntimeError, ImportError),
)
_CHOOSE_PARAMETERS = ("galore", "apollo", "lomo", "adalomo")


@dataclass
class BridgeTrainingArguments(TrainingArguments):
    """transformers' ``TrainingArguments``, with defaults that train a bridge.

    ``docs/decisions/0007-defaults.md`` says how they were found; ``--recipe paper`` has the
    settings of arXiv 2508.09091. Without ``max_steps`` and ``num_train_epochs``, the number of
    rows decides the number of steps (``schedule.steps``).

    ``torch_compile`` compiles the language model's layers (``LanguageModel.compile_layers``),
    ``gradient_checkpointing`` runs them again in the backward pass (``checkpoint_layers``).

    Args:
        fusion_learning_rate_scale: learning rate of the fusion's parameters, relative to the
            projection's; None takes the fusion's own, ``Fusion.learning_rate_scale``.
        clip_by_part: clip the gradients of the fusion, the projection and the boundary separately,
            each to ``max_grad_norm``. With one norm for all (the paper's way) the largest gradient,
            such as that of the scale of ``global-softmax``, shrinks the others' steps.
        tokens_per_batch: fill each batch up to this many tokens (rows × longest row, text and
            target together) and ignore ``per_device_train_batch_size``. A longer row gets a batch
            of its own.
        encoder_dropout: run the frozen encoder with its own dropout, as the paper's authors do.
        state_noise: deviation of normal noise in the hidden states, relative to that of English
            states in each dimension.
        language_noise: size of random shifts of a text's states, relative to the differences
            between languages; needs ``language_texts``.
        state_mixup: a of Beta(a, a), from which the weights are drawn with which the states of two
            texts are mixed, and their losses; a step takes twice as long.
        fsdp: divide the layers of the frozen language model, and not the bridge, among the
            processes (FSDP2); so does the switch of accelerate's launcher.
        average_last: the bridge at the end is the average over this share of the steps.
        start_seed: of the bridge before training; None takes ``seed``.

    Raises:
        TrainingError: a value is out of range or contradicts another one.
    """

    # Whether a map spreads the backbones over the devices of this process.
    spread: ClassVar[bool] = False
    fusion_learning_rate_scale: float | None = field(default=None)
    clip_by_part: bool = field(default=True)
    tokens_per_batch: int | None = field(default=None)
    encoder_dropout: bool = field(default=False)
    state_noise: float = field(default=0.0)
    language_noise: float = field(default=0.0)
    state_mixup: float = field(default=0.0)
    average_last: float = field(default=0.0)
    start_seed: int | None = field(default=None)
    learning_rate: float = field(default=1e-3)
    num_train_epochs: float | None = field(default=None)
    per_device_train_batch_size: int = field(default=16)
    per_device_eval_batch_size: int = field(default=32)
    lr_scheduler_type: str = field(default="cosine")
    warmup_steps: float = field(default=0.05)
    adam_beta1: float = field(default=0.9)
    adam_beta2: float = field(default=0.999)
    weight_decay: float = field(default=3e-7)
    max_grad_norm: float = field(default=1.0)
    seed: int = field(default=0)
    train_sampling_strategy: str = field(default="group_by_length")
    logging_steps: float = field(default=10)
    save_strategy: str = field(default="epoch")
    save_total_limit: int | None = field(default=1)
    fsdp: str | None = field(default=None)
    report_to: str | list[str] | None = field(default="none")
    remove_unused_columns: bool = field(default=False)
    # A batch is a few token ids; or cached states, which may be on a GPU and cannot be pinned.
    dataloader_pin_memory: bool = field(default=False)
    prediction_loss_only: bool = field(default=True)
    # It would leave rows whose loss is not finite out of the validation loss.
    logging_nan_inf_filter: bool = field(default=False)
    disable_tqdm: bool | None = field(default=False)
    gradient_checkpointing: bool | None = field(default=None)
    metric_for_best_model: str | None = field(default=None)
    # A step uses all that is trained.
    ddp_find_unused_parameters: bool | None = field(default=False)

    def __post_init__(self) -> None:
        if isinstance(self.fsdp, bool):
            self.fsdp = str(self.fsdp).lower()  # for transformers it is text or true
        given = self._check_values()
        asks_for_shards = self.fsdp == "true" or _asked_by_accelerate()
        self.fsdp = None  # the Trainer would divide the bridge, too
        if self.save_strategy == SaveStrategy.BEST and self.metric_for_best_model is None:
            self.metric_for_best_model = "loss"
        if self.gradient_checkpointing is not None and hasattr(self, "activation_checkpointing"):
            # transformers' newer name of it; it would warn about the older one.
            self.activation_checkpointing = self.gradient_checkpointing
            self.gradient_checkpointing = None
        with one_line("invalid training arguments"):
            super().__post_init__()
            get_reporting_integration_callbacks(self.report_to)
        for name, value in given.items():
            reject_idle(name, value, self)
        self.shards_language_model = asks_for_shards and self.world_size > 1
        if asks_for_shards and not self.shards_language_model:
            say_once("fsdp has no effect: there is one process")
        self._check_processes()
        if self.torch_compile and self.checkpoints_layers:
            raise TrainingError(
                "torch_compile cannot be combined with gradient checkpointing",
                hint="leave one of them out",
            )
        if self.tokens_per_batch is not None:
            self._check_tokens_per_batch(self.tokens_per_batch)
        if self.average_last and self.load_best_model_at_end:
            raise TrainingError(
                f"average_last={self.average_last} cannot be combined with load_best_model_at_end",
                hint="leave one of them out",
            )
        if _OPTIMIZATION.intersection(given):
            self._try_optimization()

    @property
    def rows_per_step(self) -> int:
        """Rows per step of the optimizer, of all processes; not for batches by tokens."""
        return self.train_batch_size * self.batches_per_step

    @property
    def batches_per_step(self) -> int:
        """Batches per step of the optimizer, of all processes."""
        return self.gradient_accumulation_steps * self.world_size

    @property
    def checkpoints_layers(self) -> bool:
        """Whether layers run again in the backward pass."""
        names = ("gradient_checkpointing", "activation_checkpointing")
        return any(getattr(self, name, False) for name in names)

    def _check_processes(self) -> None:
        """Refuses what does not fit the number of GPUs or of processes."""
        if self.spread and self.device.type == "cuda":
            self._n_gpu = 1  # the others have parts of the models
        if self.n_gpu > 1:
            raise TrainingError(
                f"{self.n_gpu} GPUs need one process each",
                hint=f"torchrun --nproc-per-node {self.n_gpu} -m layerbridge train …, or choose "
                "one with CUDA_VISIBLE_DEVICES=0",
            )
        if self.auto_find_batch_size and self.world_size > 1:
            raise TrainingError(
                f"auto_find_batch_size supports only one process, but there are {self.world_size}: "
                "each would find its own",
                hint="a smaller --per-device-train-batch-size",
            )
        if self.spread and self.world_size > 1:
            raise TrainingError(
                f"device_map supports only one process, but there are {self.world_size}",
                hint="train in one process, or leave --device-map out",
            )

    def _check_values(self) -> dict[str, Any]:
        """Checks each value, and returns those that are not the default, as they were given."""
        given = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.init and each.name != "output_dir" and not is_default(value, each):
                reject_unsupported(each, value, self)
                given[each.name] = value
                setattr(self, each.name, checked(value, each, _TYPES[each.name]))
        return given

    def _try_optimization(self) -> None:
        """Builds the optimizer and the schedule of one parameter."""
        name = OptimizerNames(self.optim).value
        if name.startswith(_CHOOSE_PARAMETERS):
            raise ConfigError(
                f"optim={name!r} is not supported: it chooses the parameters itself",
                hint="leave it out",
            )
        optim_args = f" with optim_args={self.optim_args!r}" if self.optim_args else ""
        with one_line(f"optim={name!r}{optim_args} cannot be used"):
            cls, settings = Trainer.get_optimizer_cls_and_kwargs(self)
            optimizer = cls([nn.Parameter(torch.zeros(1))], **settings)
        if optim_args and settings == self._optimizer_settings(optim_args=None):
            raise ConfigError(f"optim_args has no effect on optim={name!r}", hint="leave it out")
        for argument, setting in _ADAM.items():
            default = type(self).__dataclass_fields__[argument].default
            if getattr(self, argument) != default and setting not in settings:
                raise ConfigError(
                    f"{argument} has no effect on optim={name!r}", hint="leave it out"
                )
        schedule = SchedulerType(self.lr_scheduler_type)
        with one_line(f"lr_scheduler_type={schedule.value!r} cannot be used"):
            steps = max(self.max_steps, 100)
            get_scheduler(
                schedule,
                optimizer,
                num_warmup_steps=self.get_warmup_steps(steps),
                num_training_steps=steps,
                scheduler_specific_kwargs=self.lr_scheduler_kwargs,
            )

    def _optimizer_settings(self, **changes: Any) -> dict[str, Any]:
        changed = copy.copy(self)
        changed.__dict__.update(changes)
        return Trainer.get_optimizer_cls_and_kwargs(changed)[1]

    def _check_tokens_per_batch(self, tokens: int) -> None:
        setting = f"tokens_per_batch={tokens}"
        conflict = None
        if self.train_sampling_strategy != "group_by_length":
            strategy = str(self.train_sampling_strategy)
            conflict = f"groups rows by length, but train_sampling_strategy is {strategy!r}"
        elif self.auto_find_batch_size:
            conflict = "cannot be combined with auto_find_batch_size"
        if conflict:
            raise TrainingError(f"{setting} {conflict}", hint="leave one of them out")

    def check_cached(self) -> None:
        """Checks that training can use cached hidden states.

        Raises:
            TrainingError: there are loader workers, or what needs token ids.
        """
        if self.dataloader_num_workers:
            # A forked worker can neither use CUDA tensors nor fill the main process's cache.
            raise TrainingError(
                f"dataloader_num_workers={self.dataloader_num_workers} cannot be combined with "
                "cached states: workers have nothing to tokenize and cannot fill the cache",
                hint="leave --dataloader-num-workers or the cache out",
            )
        for name in ("dataloader_pin_memory", "include_num_input_tokens_seen"):
            if getattr(self, name) not in (False, "no"):
                raise TrainingError(
                    f"{name} cannot be combined with cached states, which are not token ids",
                    hint=f"leave --{name.replace('_', '-')} or the cache out",
                )
        if self.encoder_dropout:
            raise TrainingError(
                "encoder_dropout cannot be combined with cached states, which are read without it",
                hint="leave the cache out, or use --state-noise 0.25 instead",
            )


@cache
def _asked_by_accelerate() -> bool:
    """Whether accelerate's launcher asks for FSDP; removes that from the environment.

    transformers would leave most processes without weights, and the Trainer would divide the
    bridge.
    """
    asks = os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asks:
        say("accelerate's FSDP settings are not read: the language model's layers are divided")
    return asks


class SpreadTrainingArguments(BridgeTrainingArguments):
    """Arguments of a run whose backbones are spread over devices by a map."""

    spread = True


_TYPES = hints(BridgeTrainingArguments)


@contextmanager
def one_line(problem: str) -> Iterator[None]:
    """Turns what other packages raise about a setting into one line.

    Raises:
        ConfigError: anything of theirs was raised in the block.
    """
    try:
        yield
    except LayerBridgeError:
        raise
    except _FOREIGN as error:
        raise ConfigError(f"{problem}: {error}") from error
