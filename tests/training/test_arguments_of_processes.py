"""What arguments mean for several processes."""

import os

import pytest

from layerbridge.errors import ConfigError, TrainingError
from layerbridge.training import arguments as module
from layerbridge.training.arguments import BridgeTrainingArguments


@pytest.fixture
def asked(monkeypatch):
    """Accelerate's launcher asks for FSDP."""
    module._asked_by_accelerate.cache_clear()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    yield
    module._asked_by_accelerate.cache_clear()


def make(tmp_path, **settings):
    return BridgeTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **settings)


def test_accelerates_switch_divides_the_language_model_alone(asked, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(BridgeTrainingArguments, "world_size", 4)
    for _ in range(2):
        arguments = make(tmp_path)
        assert arguments.shards_language_model
        assert not arguments.fsdp_plugin_args
    assert capfd.readouterr().err == (
        "accelerate's FSDP settings are not read: the language model's layers are divided\n"
    )
    assert "ACCELERATE_USE_FSDP" not in os.environ


@pytest.mark.parametrize(("value", "shards"), [(True, True), ("true", True), (False, False)])
def test_fsdp_is_of_several_processes(tmp_path, monkeypatch, capfd, value, shards):
    assert not make(tmp_path, fsdp=value).shards_language_model
    monkeypatch.setattr(BridgeTrainingArguments, "world_size", 4)
    arguments = make(tmp_path, fsdp=value)
    assert arguments.shards_language_model == shards
    assert not arguments.fsdp_plugin_args


def test_a_step_is_of_all_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(BridgeTrainingArguments, "world_size", 4)
    arguments = make(tmp_path, per_device_train_batch_size=3, gradient_accumulation_steps=2)
    assert (arguments.rows_per_step, arguments.batches_per_step) == (24, 8)
    with pytest.raises(ConfigError) as caught:
        make(tmp_path, average_tokens_across_devices=False)
    assert str(caught.value) == (
        "average_tokens_across_devices is not supported: the loss of a step is the mean over the "
        "labels of all processes; next: leave it out"
    )


def test_processes_do_not_find_batch_sizes_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(BridgeTrainingArguments, "world_size", 4)
    with pytest.raises(TrainingError) as caught:
        make(tmp_path, auto_find_batch_size=True)
    assert str(caught.value) == (
        "auto_find_batch_size supports only one process, but there are 4: each would find its own; "
        "next: a smaller --per-device-train-batch-size"
    )
