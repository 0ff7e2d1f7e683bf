"""Two processes do what one does: losses, weights, validation, order of rows."""

import copy
import json

import pytest
import torch
import two_processes
from safetensors.torch import load_file, save_file

from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.models.state_cache import StateCache
from layerbridge.tasks import Row
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.batching import BLANK, ProcessBatches, TokenBatches
from layerbridge.training.trainer import BridgeTrainer

WORDS = ("the", "market", "rose", "while", "players", "of", "both", "teams", "sang", "a", "crowd")
TARGETS = ("Business", "no", "a target of several words", "Sports")
ROWS = [
    Row(str(n), " ".join(WORDS[: 1 + n * 7 % len(WORDS)] * (1 + n % 3)), TARGETS[n % 4], "en")
    for n in range(19)
]
VALIDATION = [Row(str(n), " ".join(WORDS[n : n + 3]), TARGETS[n % 4], "en") for n in range(7)]

# What two processes do, and what one does instead. With AdamW's own epsilon a gradient that is
# rounding noise would make a full step.
COMMON = {"adam_epsilon": 1e-4, "num_train_epochs": 2, "logging_steps": 1, "use_cpu": True}
COMMON |= {"learning_rate": 1e-3, "warmup_steps": 0}
VALIDATED = {"eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 2}
BY_TOKENS = {"tokens_per_batch": 95}
CASES = {
    # 19 rows: 8, 8 and 3, for which one process is enough.
    "rows": ({"per_device_train_batch_size": 4}, {"per_device_train_batch_size": 8}),
    "accumulated": (
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, **VALIDATED},
        {"per_device_train_batch_size": 12, **VALIDATED},
    ),
    "random": (
        {"per_device_train_batch_size": 4, "train_sampling_strategy": "random"},
        {"per_device_train_batch_size": 8, "train_sampling_strategy": "random"},
    ),
    "tokens": (BY_TOKENS, {**BY_TOKENS, "gradient_accumulation_steps": 2}),
    "cached": ({"per_device_train_batch_size": 4}, {"per_device_train_batch_size": 8}),
    "whole": (
        {"per_device_train_batch_size": 4, "dataloader_drop_last": True},
        {"per_device_train_batch_size": 8, "dataloader_drop_last": True},
    ),
}


@pytest.fixture(scope="module")
def new(load_encoder, load_lm, folder):
    """A bridge that starts the same each time."""

    def make(cached=False):
        torch.manual_seed(0)
        config = BridgeConfig(
            encoder=str(folder("xlm-r")),
            language_model=str(folder("llama")),
            fusion="token-softmax",
            fusion_options={"dropout": 0.0, "feedforward": 64},
            projection_start="scaled",
            options=list(TARGETS),
        )
        encoder = copy.copy(load_encoder("xlm-r"))
        bridge = LayerBridge.from_parts(config, encoder, load_lm("llama"))
        bridge.encoder.cache = StateCache() if cached else None
        return bridge

    return make


def trained(new, folder, name, settings, resume=None, **changes):
    """Trains, and writes tensors and log."""
    bridge = new(cached=name == "cached")
    settings = {"save_strategy": "no", **COMMON, **settings, **changes}
    arguments = BridgeTrainingArguments(output_dir=str(folder / name), **settings)
    trainer = BridgeTrainer(bridge, arguments, ROWS, VALIDATION)
    trainer.train(resume_from_checkpoint=resume)
    if trainer.is_world_process_zero():
        folder.mkdir(exist_ok=True)
        save_file(bridge.trained_state_dict(), folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text(json.dumps(trainer.state.log_history))


@pytest.fixture(scope="module")
def two(new, tmp_path_factory):
    """The folder of what two processes have done: all of it in one pair, which takes time."""
    folder = tmp_path_factory.mktemp("two") / "runs"
    folder.mkdir()

    def work():
        for name, (settings, _) in CASES.items():
            trained(new, folder, name, settings)

    two_processes.run(work, folder)
    return folder


def read(folder, name):
    """The tensors and what the log has, without times."""
    log = json.loads((folder / f"{name}.json").read_text())
    kept = ("loss", "eval_loss", "eval_accuracy", "grad_norm", "train_loss", "step")
    lines = [{key: line[key] for key in kept if key in line} for line in log]
    return load_file(folder / f"{name}.safetensors"), lines


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_what_one_does(new, two, tmp_path, name):
    trained(new, tmp_path, name, CASES[name][1])
    (one, expected), (both, logged) = read(tmp_path, name), read(two, name)
    assert len(logged) == len(expected) > 4
    for line, other in zip(logged, expected, strict=True):
        assert line == pytest.approx(other, abs=1e-5)
    start = new().trained_state_dict()
    for tensor, value in one.items():
        assert torch.allclose(both[tensor], value, atol=1e-5, rtol=0), tensor
    assert max((one[tensor] - start[tensor]).abs().max() for tensor in one) > 1e-3
