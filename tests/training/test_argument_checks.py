"""Every field of the installed transformers' TrainingArguments, with values made from its type.

Each is refused in one line, or changes something that a run leaves behind or prints.
"""

import dataclasses
import json
import math
import os
import typing
from enum import Enum
from types import NoneType

import jaxtyping
import pytest
import torch
import transformers
import yaml

from layerbridge.cli.train import training_flags
from layerbridge.errors import LayerBridgeError
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.tasks import Row
from layerbridge.training.argument_checks import UNSUPPORTED, hints, is_default
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.recipe import Recipe, read
from layerbridge.training.run import RunData, train_bridge, training_arguments

FIELDS = {
    field.name: field
    for field in dataclasses.fields(BridgeTrainingArguments)
    if field.init and field.name != "output_dir"
}
TYPES = hints(BridgeTrainingArguments)
TEXTS = ["the market " * 3, "a crowd", "players of both teams", "a", "the players sang " * 2, "of"]
ROWS = [Row(str(n), text, "Sports" if n % 2 else "no", "en") for n, text in enumerate(TEXTS)]
# Answers that training makes less likely, so that the last checkpoint is not the best one.
WATCHED = [Row(row.id, row.text, "crowd", "en") for row in ROWS[:3]]
DATA = RunData(ROWS, WATCHED, None, None, "rows")
BASE = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "logging_steps": 1,
    "save_strategy": "no",
    "use_cpu": True,
}
UNSET = object()

# What else an argument needs to have an effect.
VALIDATION = {"eval_strategy": "steps", "eval_steps": 1}
CHECKPOINTS = {"save_strategy": "steps", "save_steps": 1}
WORKERS = {"dataloader_num_workers": 1}
CONTEXT = {
    "eval_steps": {"eval_strategy": "steps"},
    "eval_strategy": {"eval_delay": UNSET},
    "eval_delay": VALIDATION,
    "eval_on_start": VALIDATION,
    "per_device_eval_batch_size": VALIDATION,
    "metric_for_best_model": VALIDATION,
    "load_best_model_at_end": {**VALIDATION, **CHECKPOINTS, "learning_rate": 0.3},
    "logging_strategy": {"logging_steps": UNSET, "num_train_epochs": 4},
    "logging_first_step": {"logging_steps": 2},
    "save_steps": {"save_strategy": "steps", "save_total_limit": 0},
    "save_total_limit": CHECKPOINTS,
    "save_only_model": CHECKPOINTS,
    "lr_scheduler_kwargs": {"lr_scheduler_type": "cosine_with_restarts"},
    "dataloader_prefetch_factor": WORKERS,
    "dataloader_persistent_workers": WORKERS,
    "dataloader_multiprocessing_context": WORKERS,
    "dataloader_in_order": WORKERS,
    "dataloader_drop_last": {"per_device_train_batch_size": 4},
    "data_seed": {"train_sampling_strategy": "random"},
}
PLATEAU = {**VALIDATION, "lr_scheduler_kwargs": {"patience": 0}}
VALUE_CONTEXT = {
    "reduce_lr_on_plateau": PLATEAU,
    "greedy": PLATEAU,
    "cosine_with_min_lr": {"lr_scheduler_kwargs": {"min_lr": "1e-3"}},
    "cosine_warmup_with_min_lr": {"lr_scheduler_kwargs": {"min_lr": "1e-3"}},
    "warmup_stable_decay": {"lr_scheduler_kwargs": {"num_decay_steps": 2}},
    "best": VALIDATION,
}
# These change how the work is done, or when something goes wrong, and not what it gives.
UNSEEN = {
    # Memory.
    *("auto_find_batch_size", "torch_empty_cache_steps"),
    *("gradient_checkpointing", "activation_checkpointing"),
    *("dataloader_num_workers", "dataloader_persistent_workers", "dataloader_prefetch_factor"),
    *("dataloader_in_order", "dataloader_multiprocessing_context", "dataloader_pin_memory"),
    *("full_determinism", "use_cpu", "tf32"),
    "ignore_data_skip",  # tested where a run resumes
    "metric_for_best_model",  # the loss has two names
}
SAME = {
    ("optim", "adamw_torch"),  # the default's numbers, by other kernels
    ("lr_scheduler_type", "cosine_with_restarts"),  # without a restart
    ("save_strategy", "no"),  # as in BASE
    ("log_level", "error"),  # as in all tests
}
# Tested with the compiled layers, in a run of two processes, and as options of a whole run.
ELSEWHERE = {"torch_compile", "torch_compile_backend", "torch_compile_mode"}
ELSEWHERE |= {"language_noise", "start_seed"}
# Values that start a fresh interpreter for each worker, or depend on what is installed.
SLOW = {"spawn", "forkserver", "all"}
# What this machine, or one process, does not have.
ABSENT = {
    *("fp16", "fsdp", "log_on_each_node", "log_level_replica"),
    *("save_on_each_node", "report_to", "run_name", "project", "optim_args"),
    *(name for name in FIELDS if name.startswith(("ddp_", "trackio_"))),
}
MAPPING = {"num_cycles": "3"}
BAD = ("maybe", "many", "fast", "sometimes", "{not JSON")


def values(name):
    """Values of an argument, good and bad, made from its type."""
    kinds = [kind for kind in typing.get_args(TYPES[name]) or (TYPES[name],) if kind != NoneType]
    original = transformers.TrainingArguments.__dataclass_fields__.get(name, FIELDS[name])
    choices = list(original.metadata.get("choices") or ())
    made = []
    for kind in kinds:
        if kind is bool:
            made += [True, False, "maybe"]
        elif kind is int:
            made += [1, 3, 2.0, 0, -1, 1.5, "many", math.nan, True]
            made += [1 << 40] if "seed" in name else []
        elif kind is float:
            made += [0.5, 2, 1, 0, -1, "fast", math.nan, math.inf, True]
        elif kind is str:
            made += ["anything", 7]
        elif isinstance(kind, type) and issubclass(kind, Enum):
            choices = [item.value for item in kind]
        elif kind is dict or typing.get_origin(kind) is dict:
            made += [MAPPING, "{not JSON"]
        else:
            made += [["anything"]]
    return [*choices, "sometimes"] if choices else made


@pytest.fixture(scope="module")
def outcome(load_encoder, load_lm, folder, tmp_path_factory):
    """Settings → what a run with them leaves behind."""
    config = BridgeConfig(
        encoder=str(folder("xlm-r")), language_model=str(folder("llama")),
        fusion="global-softmax", projection_start="scaled",
    )  # fmt: skip
    torch.manual_seed(0)
    bridge = LayerBridge.from_parts(config, load_encoder("xlm-r"), load_lm("llama"))
    start = {name: tensor.clone() for name, tensor in bridge.trained_state_dict().items()}

    def run(settings, capfd):
        capfd.readouterr()
        output = tmp_path_factory.mktemp("run")
        bridge.load_trained(dict(start))
        recipe = Recipe(encoder="e", language_model="l")
        environment = dict(os.environ)
        # Accelerate builds the output of bf16 from a dict, as transformers' ModelOutput allows.
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            arguments = training_arguments(settings, output)
            train_bridge(bridge, recipe, DATA, arguments, output)
        finally:
            verbosity = transformers.logging.get_verbosity()
            os.environ.clear()
            os.environ.update(environment)
            jaxtyping.config.update("jaxtyping_disable", False)
            torch.use_deterministic_algorithms(False)
            transformers.logging.set_verbosity_error()
        log = json.loads((output / "training.json").read_text())
        timeless = ("runtime", "per_second")
        printed = capfd.readouterr().err.replace(str(output), "")
        return {
            "printed": printed,
            "verbosity": verbosity,
            "tensors": {n: t.flatten().tolist() for n, t in bridge.trained_state_dict().items()},
            "log": [{key: value for key, value in line.items() if not key.endswith(timeless)}
                    for line in log],
            "files": sorted(str(path.relative_to(output)) for path in output.rglob("*")),
        }  # fmt: skip

    return run


@pytest.fixture(scope="module")
def compare(outcome):
    """Settings and more settings → whether a run with these is another one."""
    known = {}

    def run(settings, more, capfd):
        key = json.dumps(settings, sort_keys=True)
        if key not in known:
            known[key] = outcome(settings, capfd)
        return outcome({**settings, **more}, capfd) != known[key]

    return run


def context(name, value):
    """The other arguments of a run."""
    settings = {**BASE, **CONTEXT.get(name, {}), **VALUE_CONTEXT.get(str(value), {})}
    return {key: item for key, item in settings.items() if item is not UNSET}


def refusal(make, settings):
    """The message of a refusal, or None."""
    try:
        make(settings)
    except LayerBridgeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", FIELDS)
def test_an_argument_works_or_is_refused(name, compare, capfd, tmp_path):
    tried, works, compared = values(name), [], 0
    for value in tried:
        settings = context(name, value)
        message = refusal(lambda all: BridgeTrainingArguments(output_dir="x", **all),
                          {**settings, name: value})  # fmt: skip
        # From a recipe and the command line as from Python.
        (tmp_path / "r.yaml").write_text(yaml.safe_dump({"training": {name: value}}))
        given = [read(tmp_path / "r.yaml").training]
        if not isinstance(value, (dict, list)):
            word = str(value).lower() if isinstance(value, bool) else str(value)
            given.append(training_flags([f"--{name.replace('_', '-')}", word]))
        for flags in given:
            again = refusal(lambda all: training_arguments(all, tmp_path), {**settings, **flags})
            assert again == message
        if message is not None:
            assert "\n" not in message
            assert name in message or message.startswith("invalid training arguments: "), message
            continue
        assert value not in BAD
        assert math.isfinite(value) if isinstance(value, float) else value != 1 << 40
        if is_default(value, FIELDS[name]) or str(value) in SLOW or name in ELSEWHERE:
            continue
        # Each of the choices, else one value that works; what is never seen, once.
        if "sometimes" in tried or (not works and not (name in UNSEEN and compared)):
            compared += 1
            more = {name: value}
            if name == "lr_scheduler_type" and "lr_scheduler_kwargs" in settings:
                more["lr_scheduler_kwargs"] = settings.pop("lr_scheduler_kwargs")
            changed = compare(settings, more, capfd)
            works += [value] * changed
            if "sometimes" in tried and name not in UNSEEN:
                assert changed or (name, value) in SAME, f"{name}={value} changes nothing"
    refused = name in UNSUPPORTED or name in ABSENT
    assert bool(works) != (refused or name in UNSEEN | ELSEWHERE)
