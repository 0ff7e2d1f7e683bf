"""What training arguments may be: their types and ranges, and which ones do nothing here.

transformers checks few of its own: a wrong type or value would end in a traceback halfway, and an
argument without a use would be ignored.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass
from enum import Enum
from functools import cache
from types import NoneType
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from transformers import TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, SchedulerType

from layerbridge.errors import ConfigError
from layerbridge.training.recipe import typed


@dataclass(frozen=True)
class _Range:
    allowed: str
    holds: Callable[[Any], bool]


def _whole(value: float) -> bool:
    return value >= 1 and value == int(value)


_POSITIVE = _Range("a number above 0", lambda value: value > 0)
_NOT_NEGATIVE = _Range("a number, 0 or more", lambda value: value >= 0)
_COUNT = _Range("a positive integer", lambda value: value >= 1)
_COUNT_OR_ZERO = _Range("an integer, 0 or more", lambda value: value >= 0)
_DECAY = _Range("a number from 0 to below 1", lambda value: 0 <= value < 1)
_SEED = _Range("an integer from 0 to 4294967295", lambda value: 0 <= value < 1 << 32)
_STEPS = "a positive integer, or a fraction of all steps, below 1"
_EVERY = _Range(_STEPS, lambda value: 0 < value < 1 or _whole(value))
_WARMUP = _Range(f"0, {_STEPS}", lambda value: 0 <= value < 1 or _whole(value))

_RANGES = {
    "per_device_train_batch_size": _COUNT,
    "per_device_eval_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "num_train_epochs": _POSITIVE,
    "max_steps": _Range(
        "a positive integer, or -1 for num_train_epochs", lambda value: value >= 1 or value == -1
    ),
    "learning_rate": _POSITIVE,
    "fusion_learning_rate_scale": _Range(
        "0 (the fusion stays as it starts) or more", lambda value: value >= 0
    ),
    "warmup_steps": _WARMUP,
    "weight_decay": _NOT_NEGATIVE,
    "adam_beta1": _DECAY,
    "adam_beta2": _DECAY,
    "adam_epsilon": _POSITIVE,  # a gradient of 0 would be divided by 0
    "max_grad_norm": _Range("0 (no clipping) or more", lambda value: value >= 0),
    "torch_empty_cache_steps": _COUNT,
    "logging_steps": _EVERY,
    "eval_steps": _EVERY,
    "eval_delay": _NOT_NEGATIVE,
    "save_steps": _EVERY,
    "save_total_limit": _Range("a positive integer, or 0 for all", lambda value: value >= 0),
    "seed": _SEED,
    "data_seed": _SEED,
    "dataloader_num_workers": _COUNT_OR_ZERO,
    "dataloader_prefetch_factor": _COUNT,
    "ddp_bucket_cap_mb": _COUNT,
    "ddp_timeout": _COUNT,
    "tokens_per_batch": _COUNT,
    **dict.fromkeys(
        ("state_noise", "language_noise", "state_mixup"),
        _Range("0 (none) or more", lambda value: value >= 0),
    ),
    "average_last": _Range("0 (no average) to 1", lambda value: 0 <= value <= 1),
    "start_seed": _SEED,
}

_CHOICES = {
    "include_num_input_tokens_seen": ("all", "non_padding", "no", True, False),
    "metric_for_best_model": ("loss", "eval_loss"),
    # batch_rebalance reads lengths from a column.
    "train_sampling_strategy": ("random", "sequential", "group_by_length"),
    "dataloader_multiprocessing_context": ("fork", "spawn", "forkserver"),
    "fsdp": ("true", "false"),
    "ddp_backend": ("nccl", "gloo", "mpi", "xccl", "hccl", "cncl", "mccl"),
}

_FROZEN = "the encoder and the language model stay frozen"
_LOSS_ONLY = "validation computes the loss and nothing else"
_ROWS = "rows are texts with a target, without columns"
_FOLDER = "training writes to its own folder only"
_SHARDS = "the bridge is too small to be divided"
_CHECKPOINTING = "each of the language model's layers is checkpointed, in one way"
_VERB = "this command only trains"

# Argument → why it has no use here, and what has.
UNSUPPORTED: dict[str, tuple[str, str | None]] = {
    **dict.fromkeys(
        (
            "gradient_checkpointing_kwargs",
            "activation_checkpointing_kwargs",
        ),
        (_CHECKPOINTING, "--gradient-checkpointing true alone"),
    ),
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config", "use_cache"), (_FROZEN, None)),
    "neftune_noise_alpha": (_FROZEN, None),
    "optim_target_modules": ("the fusion and the projection are trained, all of them", None),
    "label_smoothing_factor": ("the loss is the method's cross-entropy", None),
    **dict.fromkeys(
        ("bf16_full_eval", "fp16_full_eval"),
        ("validation has the precision of training", "--bf16 true or --dtype bfloat16 sets both"),
    ),
    **dict.fromkeys(
        (
            "prediction_loss_only",
            "eval_do_concat_batches",
            "eval_use_gather_object",
            "eval_accumulation_steps",
            "include_for_metrics",
            "batch_eval_metrics",
            "label_names",
        ),
        (_LOSS_ONLY, None),
    ),
    "greater_is_better": ("the best checkpoint is the one with the lowest validation loss", None),
    **dict.fromkeys(("remove_unused_columns", "length_column_name"), (_ROWS, None)),
    **dict.fromkeys(
        (
            "push_to_hub",
            "hub_token",
            "hub_private_repo",
            "hub_model_id",
            "hub_strategy",
            "hub_always_push",
            "hub_revision",
        ),
        (_FOLDER, "upload it afterwards: hf upload NAME FOLDER"),
    ),
    **dict.fromkeys(
        ("accelerator_config", "parallelism_config", "fsdp_config", "deepspeed"),
        (_SHARDS, "--fsdp true divides the language model's layers among torchrun's processes"),
    ),
    "average_tokens_across_devices": (
        "the loss of a step is the mean over the labels of all processes",
        None,
    ),
    "local_rank": ("torchrun sets it", None),
    "restore_callback_states_from_checkpoint": ("there are none to restore", None),
    "enable_jit_checkpoint": (
        "checkpoints are written at fixed steps",
        "--save-strategy steps --save-steps N, and --resume",
    ),
    "resume_from_checkpoint": (
        "a run continues from the last checkpoint in its folder",
        "--resume",
    ),
    **dict.fromkeys(
        ("debug", "logging_nan_inf_filter"),
        ("a loss or a gradient that is not finite ends the run", None),
    ),
    **dict.fromkeys(("do_train", "do_eval", "do_predict"), (_VERB, "layerbridge evaluate RUN")),
}

_WITHOUT_WARMUP = (SchedulerType.CONSTANT, SchedulerType.REDUCE_ON_PLATEAU, SchedulerType.GREEDY)
_Condition = Callable[[Any], bool]

# Argument → what gives it an effect, and whether that is set.
_NEEDS: dict[str, tuple[str, _Condition]] = {
    "eval_steps": ("--eval-strategy steps", lambda it: it.eval_strategy == IntervalStrategy.STEPS),
    **dict.fromkeys(
        (
            "eval_delay",
            "eval_on_start",
            "per_device_eval_batch_size",
            "load_best_model_at_end",
            "metric_for_best_model",
        ),
        (
            "--eval-strategy steps or epoch",
            lambda it: it.eval_strategy != IntervalStrategy.NO,
        ),
    ),
    "logging_steps": (
        "--logging-strategy steps",
        lambda it: it.logging_strategy == IntervalStrategy.STEPS,
    ),
    "save_steps": ("--save-strategy steps", lambda it: it.save_strategy == SaveStrategy.STEPS),
    **dict.fromkeys(
        ("save_total_limit", "save_only_model"),
        ("checkpoints (--save-strategy)", lambda it: it.save_strategy != SaveStrategy.NO),
    ),
    **dict.fromkeys(
        (
            "dataloader_prefetch_factor",
            "dataloader_persistent_workers",
            "dataloader_multiprocessing_context",
            "dataloader_in_order",
        ),
        ("--dataloader-num-workers", lambda it: it.dataloader_num_workers > 0),
    ),
    "dataloader_drop_last": (
        "batches of a fixed number of rows",
        lambda it: it.tokens_per_batch is None,
    ),
    "clip_by_part": ("--max-grad-norm above 0", lambda it: it.max_grad_norm > 0),
    "warmup_steps": (
        "a schedule with a warmup (--lr-scheduler-type)",
        lambda it: it.warmup_steps == 0 or it.lr_scheduler_type not in _WITHOUT_WARMUP,
    ),
    "run_name": ("--report-to", lambda it: bool(it.report_to)),
    **dict.fromkeys(
        ("project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
        ("--report-to trackio", lambda it: "trackio" in it.report_to),
    ),
    **dict.fromkeys(
        (
            "log_on_each_node",
            "log_level_replica",
            "save_on_each_node",
            "ddp_find_unused_parameters",
            "ddp_bucket_cap_mb",
            "ddp_broadcast_buffers",
            "ddp_static_graph",
            "ddp_backend",
            "ddp_timeout",
        ),
        ("several processes (torchrun)", lambda it: it.world_size > 1),
    ),
}

_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "text"}


def hints(arguments: type) -> dict[str, Any]:
    """Returns the type of each argument; transformers' own are the more exact ones."""
    return {**typing.get_type_hints(arguments), **typing.get_type_hints(TrainingArguments)}


def checked(value: Any, field: Field[Any], hint: Any) -> Any:
    """Returns a value in its argument's type: 10.0 is an integer, 3 may be a name.

    Args:
        value: given by the user; not the default.
        field: of the dataclass.
        hint: the field's type.

    Raises:
        ConfigError: the value is of another type or out of range.
    """
    kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind is not NoneType]
    given, value = value, _converted(value, kinds)
    choices = _choices(field, kinds)
    limit = _RANGES.get(field.name)
    if choices:
        fits = value in choices and not isinstance(value, float)
        allowed: str | list[str] = [str(item).lower() for item in choices]
    else:
        unread = dict in kinds and isinstance(value, str)  # neither a mapping nor JSON
        fits = not unread and _is_a(hint, value)
        fits = fits and (limit is None or value is None or limit.holds(value))
        allowed = limit.allowed if limit else _described(kinds)
    if not fits:
        raise ConfigError(f"{field.name}={given!r} is not valid", allowed=allowed)
    return value


def reject_unsupported(field: Field[Any], value: Any, arguments: Any) -> None:
    """Rejects an argument that has no use here.

    Args:
        field: of the dataclass.
        value: not the default.
        arguments: all of them.

    Raises:
        ConfigError: the argument has no use.
    """
    name = field.name
    # transformers itself sets some, in arguments that are copied.
    empty = value is False or (isinstance(value, (str, list, dict)) and not value)
    copied = (empty and not field.default) or isinstance(value, AcceleratorConfig)
    copied |= name == "do_eval" and arguments.eval_strategy != IntervalStrategy.NO
    if name in UNSUPPORTED and not copied:
        why, hint = UNSUPPORTED[name]
        raise ConfigError(f"{name} is not supported: {why}", hint=hint or "leave it out")


def reject_idle(name: str, value: Any, arguments: Any) -> None:
    """Rejects an argument that would be ignored because of the others.

    Args:
        name: of the argument.
        value: not the default.
        arguments: all of them, after transformers' own checks.

    Raises:
        ConfigError: the argument has no effect without another one.
    """
    if name in _NEEDS:
        needed, is_set = _NEEDS[name]
        if not is_set(arguments):
            raise ConfigError(
                f"{name}={value!r} has no effect without {needed}",
                hint="set that too, or leave it out",
            )


def is_default(value: Any, field: Field[Any]) -> bool:
    """Whether a value is the field's default."""
    if field.default is MISSING:
        return not value
    return value == field.default and isinstance(value, bool) == isinstance(field.default, bool)


def _converted(value: Any, kinds: list[Any]) -> Any:
    if dict in kinds and isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if dict in kinds and isinstance(value, dict):
        # YAML reads 1e-6 as text.
        return {key: typed(item) for key, item in value.items()}
    if str not in kinds:
        value = typed(value)
    elif isinstance(value, (bool, int, float)) and bool not in kinds:
        return str(value)
    if kinds == [bool] and not isinstance(value, bool) and value in (0, 1):
        return bool(value)
    if kinds == [float] and type(value) is int:
        return float(value)  # torch takes no others
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if whole and int in kinds else value


def _choices(field: Field[Any], kinds: list[Any]) -> tuple[Any, ...]:
    enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    original = TrainingArguments.__dataclass_fields__.get(field.name, field)
    listed = [item.value for enum in enums for item in enum] or original.metadata.get("choices", ())
    return _CHOICES.get(field.name) or tuple(listed)


def _described(kinds: list[Any]) -> str:
    if dict in kinds:
        return 'a mapping, such as {"num_cycles": 2}'
    return " or ".join(_NAMES.get(kind, "a list of texts") for kind in kinds)


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    settings = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
    return TypeAdapter(hint, config=settings)


def _is_a(hint: Any, value: Any) -> bool:
    try:
        _adapter(hint).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True
