"""Resuming a run: what may have changed since its last checkpoint, and what may not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from layerbridge.errors import CheckpointError, ConfigError
from layerbridge.models.backbone_pair import have_same_weights
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.checkpoint import WEIGHTS, read_checkpoint, read_config
from layerbridge.models.config import BridgeConfig
from layerbridge.progress import meter, say
from layerbridge.tasks.stored_rows import StoredRows
from layerbridge.tasks.task import Row
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.output import check_output
from layerbridge.training.recipe import BACKBONES, BRIDGE, FILE, Recipe, read
from layerbridge.training.step_size import SETTINGS, StepSize, processes_of

# Training arguments that may change: what is logged, saved and watched, how long the run is, and
# how the work is done. All others decide a step, or are restored from the checkpoint.
_MAY_CHANGE = {
    *("num_train_epochs", "max_steps"),
    *("logging_strategy", "logging_steps", "logging_first_step", "log_level", "log_level_replica"),
    *("log_on_each_node", "disable_tqdm", "report_to", "run_name", "project"),
    *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
    *("include_num_input_tokens_seen",),
    *("save_strategy", "save_steps", "save_total_limit", "save_only_model", "save_on_each_node"),
    *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "per_device_eval_batch_size"),
    *("load_best_model_at_end", "metric_for_best_model", "ignore_data_skip"),
    "skip_memory_metrics",
    *("dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_persistent_workers"),
    *("dataloader_multiprocessing_context", "dataloader_pin_memory"),
    *("torch_compile", "torch_compile_backend", "torch_compile_mode", "torch_empty_cache_steps"),
    *("ddp_backend", "ddp_timeout", "ddp_bucket_cap_mb", "use_cpu", "fsdp"),
    # Of the recipe itself.
    *("validation_data", "validation_share", "cache_states"),
    *("attn_implementation", "trust_remote_code", "allow_pickle"),
    *("gradient_checkpointing", "activation_checkpointing", "device_map", "encoder_device"),
}
# What these name is compared itself, wherever it is now.
_DECIDED_BY_WEIGHTS = {"encoder", "language_model", "encoder_revision", "language_model_revision"}
_DECIDED_BY_ROWS = {"data", "text", "target", "max_rows", "task option data_dir"}
_BACKBONES = {"dtype": "auto", "trust_remote_code": False, "allow_pickle": False}
_LENGTH = {"num_train_epochs", "max_steps"}
_LONGER = "more --num-train-epochs or --max-steps"
_FORMER_BRIDGE = {"start": "uniform", "projection_start": "random", "instruction": None}
_FORMER_TRAINING = {
    **{"num_train_epochs": 3.0, "per_device_train_batch_size": 8, "learning_rate": 3e-5},
    **{"lr_scheduler_type": "cosine", "adam_beta1": 0.8, "clip_by_part": False},
    **{"fusion_learning_rate_scale": 1.0, "eval_strategy": "no"},
}
_SECTIONS = ("bridge", "backbones", "training", "task_options")


def own_recipe(folder: Path, *, resume: bool = True) -> Recipe:
    """Returns the recipe of the run that resumes.

    Raises:
        ConfigError: there is none, or the run does not resume.
        OutputError: there is no checkpoint.
    """
    if not resume:
        raise ConfigError("the run has no recipe", hint="a recipe, or resume=True")
    check_output(folder, resume=True)
    if not (folder / FILE).is_file():
        raise ConfigError(
            f"{str(folder)!r} has no {FILE}", hint="--recipe FILE, or the flags it was trained with"
        )
    return as_run(read(folder / FILE))


def resume_command(folder: Path, processes: int) -> str:
    """Returns the command that continues a run."""
    program = "layerbridge"
    if processes > 1:
        program = f"torchrun --nproc-per-node {processes} -m layerbridge"
    return f"{program} train --resume -o {shlex.quote(str(folder))}"


def with_same_steps(recipe: Recipe, folder: Path, processes: int) -> Recipe:
    """Returns the recipe with batches that make the run's steps in other processes, too.

    It stays as it is if it has other batches than the run: ``check_same_run`` compares them.

    Raises:
        ConfigError: so many processes cannot share a step of the run.
    """
    size = _step_size(folder) if (folder / FILE).is_file() else None
    if size is None or StepSize.of(recipe.training, processes) == size:
        return recipe
    before, now = _settings(as_run(read(folder / FILE))), _settings(recipe)
    if any(before[name] != now[name] for name in (*SETTINGS, "tokens_per_batch")):
        return recipe
    changes = size.shared(recipe.training, processes)
    say(
        f"resuming in {processes} process{'es' * (processes > 1)}, with the run's steps of {size}: "
        + ", ".join(f"{name}={value}" for name, value in changes.items())
    )
    return dataclasses.replace(recipe, training={**recipe.training, **changes})


def check_same_run(
    recipe: Recipe, rows: Sequence[Row], folder: Path, *, processes: int = 1
) -> None:
    """Compares a recipe and its rows with the run that the folder has checkpoints of.

    Settings that may change are printed if they did.

    Args:
        recipe: of the run that resumes.
        rows: of training.
        folder: of the run.
        processes: that it resumes in.

    Raises:
        ConfigError: another setting has changed, or the rows, or the run is complete.
    """
    state = _state(folder)
    log = state.get("log_history", ())
    recorded = {entry["rows_sha256"] for entry in log if "rows_sha256" in entry}
    if recorded and rows_sha256(rows) not in recorded:
        raise ConfigError(
            f"the run in {str(folder)!r} began with other rows",
            allowed="the same rows in the same order",
            hint="restore the data, or train in another folder",
        )
    file = folder / FILE
    if not file.is_file():
        say(f"{str(folder)!r} has no {FILE}: the run's settings are not compared")
        return
    before, now = _settings(as_run(read(file))), _settings(recipe)
    changed = {
        name: (before.get(name), now.get(name))
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name) and name not in _DECIDED_BY_WEIGHTS
    }
    free: set[str] = _MAY_CHANGE | (_DECIDED_BY_ROWS if recorded else set())
    size = StepSize.of(now, processes)
    if size == _step_size(folder):
        free |= {*SETTINGS}
    if now["load_best_model_at_end"]:
        free -= {"validation_data"}  # losses of other rows cannot be compared
    fixed = {name: values for name, values in changed.items() if name not in free}
    if fixed:
        raise ConfigError(
            f"the run in {str(folder)!r} cannot continue with {_listed(fixed)}",
            allowed="changes to epochs, steps, logging, saving and validation",
            hint="resume with the run's own settings, or train in another folder",
        )
    done, total = state.get("global_step", 0), state.get("max_steps", 0)
    if 0 < total <= done and (folder / WEIGHTS).is_file() and not changed.keys() & _LENGTH:
        raise _complete(folder, done, total)
    changed = {name: values for name, values in changed.items() if name not in SETTINGS}
    if changed:
        say(f"resuming with {_listed(changed)}")


def as_run(recipe: Recipe) -> Recipe:
    """Returns the recipe of a run, with what its settings were if it leaves them open.

    A run's recipe holds what decides it. Before 0.2 it held what the user had set, and the defaults
    were others.
    """
    if "lr_scheduler_type" in recipe.training:
        return recipe
    return dataclasses.replace(
        recipe,
        validation_share=recipe.validation_share or 0.0,
        bridge={**_FORMER_BRIDGE, **recipe.bridge},
        training={**_FORMER_TRAINING, **recipe.training},
    )


def begin_at(folder: Path, total: int) -> None:
    """Says where a run of so many steps continues, if its last checkpoint is not its end.

    Raises:
        ConfigError: it ends before the checkpoint, or there and its weights are written.
    """
    done = _state(folder).get("global_step", 0)
    if done == total and (folder / WEIGHTS).is_file():
        raise _complete(folder, done, total)
    if done > total:
        raise ConfigError(
            f"the run in {str(folder)!r} is at step {done}, beyond its new end at step {total}",
            hint=_LONGER,
        )
    say(f"resuming from {get_last_checkpoint(str(folder))}: step {done} of {total}")


def _complete(folder: Path, done: int, total: int) -> ConfigError:
    return ConfigError(
        f"the run in {str(folder)!r} is complete: {done} of {total} steps", hint=_LONGER
    )


def rows_sha256(rows: Sequence[Row]) -> str:
    """Returns a hash of the rows' texts and targets, in their order."""
    if not isinstance(rows, StoredRows):
        return _sha256(rows, lambda done: None)
    if rows not in _OF_STORED:
        with meter("checking rows") as bar:
            _OF_STORED[rows] = _sha256(rows, lambda done: bar.update(done, len(rows)))
    return _OF_STORED[rows]


# A pass over them takes a minute.
_OF_STORED: WeakKeyDictionary[StoredRows, str] = WeakKeyDictionary()


def _sha256(rows: Sequence[Row], report: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    for done, row in enumerate(rows, start=1):
        digest.update(json.dumps([row.text, row.target]).encode())
        if done % 10_000 == 0:
            report(done)
    return digest.hexdigest()


class RowsRecord(TrainerCallback):
    """Writes the hash of the training rows to the run's log, which every checkpoint holds.

    Args:
        rows: of training.
        size: of a step.
    """

    def __init__(self, rows: Sequence[Row], size: StepSize) -> None:
        self.entry = {"step": 0, "rows": len(rows), "rows_sha256": rows_sha256(rows)}
        self.entry |= size.entry()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Adds the line, unless the log was continued and has one."""
        if not any("rows_sha256" in entry for entry in state.log_history):
            state.log_history.insert(0, self.entry)


def check_resumable(bridge: LayerBridge, folder: Path) -> None:
    """Loads the last checkpoint in ``folder`` into ``bridge``, and checks the Trainer's files.

    Raises:
        CheckpointError: the checkpoint is damaged, or of another fusion or other backbones.
    """
    last = Path(get_last_checkpoint(str(folder)) or folder)
    config, _ = read_config(str(last))
    for backbone in ("encoder", "language_model"):
        if not have_same_weights(config, bridge.config, backbone):
            name = f"{backbone}_fingerprint"
            saved, current = getattr(config, name), getattr(bridge.config, name)
            raise CheckpointError(
                f"{str(last)!r} was trained with another {backbone.replace('_', ' ')}: its "
                f"weights are {saved[:12]}",
                allowed=f"weights {current[:12]}",
                hint="resume with the models it was trained with",
            )
    if config.fusion != bridge.config.fusion:
        raise CheckpointError(
            f"{str(last)!r} has the fusion {config.fusion!r}", allowed=bridge.config.fusion
        )
    bridge.load_trained(read_checkpoint(last), where=str(last))
    for name, is_complete in _STATE_FILES.items():
        if not is_complete(last / name):
            raise CheckpointError(
                f"{str(last / name)!r} is missing or truncated",
                hint=f"remove {last} and resume from the one before it, or train again",
            )


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


# What the Trainer reads besides the bridge's tensors. A zip archive has its directory at the end.
_STATE_FILES = {
    "trainer_state.json": _is_json,
    "optimizer.pt": zipfile.is_zipfile,
    "scheduler.pt": zipfile.is_zipfile,
}


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Returns a recipe's settings by name, with the defaults of those that are not set."""
    top = {
        item.name: getattr(recipe, item.name)
        for item in dataclasses.fields(Recipe)
        if item.name not in _SECTIONS
    }
    config = BridgeConfig(**recipe.bridge)
    return {
        **top,
        **{f"task option {name}": value for name, value in recipe.task_options.items()},
        **{name: getattr(config, name) for name in BRIDGE},
        **{name: recipe.backbones.get(name, _BACKBONES.get(name)) for name in BACKBONES},
        **{
            item.name: item.default
            for item in dataclasses.fields(BridgeTrainingArguments)
            if item.default is not dataclasses.MISSING
        },
        **recipe.training,
    }


def _step_size(folder: Path) -> StepSize | None:
    """Returns the size of the run's steps; None if that is unknown."""
    logged = StepSize.logged(_state(folder).get("log_history", ()))
    if logged is not None or not (folder / FILE).is_file():
        return logged
    processes = processes_of(Path(get_last_checkpoint(str(folder)) or folder))
    return StepSize.of(_settings(as_run(read(folder / FILE))), processes)


def _listed(changed: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name}={now!r} (was {before!r})" for name, (before, now) in changed.items())


def _state(folder: Path) -> dict[str, Any]:
    last = Path(get_last_checkpoint(str(folder)) or folder)
    try:
        return json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # check_resumable reports it
