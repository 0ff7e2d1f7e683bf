"""Runs on quantized, spread and checkpointed backbones."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import TrainingArguments

from layerbridge.errors import ConfigError, TrainingError
from layerbridge.models.bridge import LayerBridge
from layerbridge.training.recipe import Recipe, override
from layerbridge.training.run import train, training_arguments

ROWS = {"the market rose": "Business", "the players won": "Sports", "rates fell": "Business"}


@pytest.fixture
def recipe(folder, tmp_path):
    data = tmp_path / "rows.jsonl"
    lines = (json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS.items())
    data.write_text("".join(lines), encoding="utf-8")
    return Recipe(
        encoder=str(folder("xlm-r")),
        language_model=str(folder("llama")),
        data=str(data),
        target="label",
        options=["Business", "Sports"],
        bridge={"fusion": "global-softmax", "projection_start": "random"},
        backbones={"dtype": "float32"},
        training={"max_steps": 2, "save_strategy": "no", "disable_tqdm": True},
    )


def test_a_run_in_4_bits_is_recorded_and_loaded_again(recipe, tmp_path):
    changes = {"load_in_4bit": True, "cache_states": True, "training": {
        "gradient_checkpointing": True}}  # fmt: skip
    train(override(recipe, changes), tmp_path / "run", device="cpu")
    written = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert written["backbones"]["load_in_4bit"] is True
    bridge = LayerBridge.from_pretrained(tmp_path / "run", dtype="float32")
    assert bridge.config.language_model_quantization == "4bit"
    assert bridge.language_model.model.is_loaded_in_4bit
    assert bridge.encoder.model.is_loaded_in_4bit
    assert bridge.classify("the market rose")[0].choice in ("Business", "Sports")


@pytest.mark.filterwarnings("error:.*gradient_checkpointing.*")
def test_checkpointed_layers_train_the_same_bridge(recipe, tmp_path):
    for name, changes in (("plain", {}), ("checkpointed", {"gradient_checkpointing": True})):
        train(override(recipe, {"training": changes}), tmp_path / name, device="cpu")
    first, second = (
        load_file(tmp_path / name / "model.safetensors") for name in ("plain", "checkpointed")
    )
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-6)


def test_a_spread_language_model_is_trained_on(recipe, tmp_path):
    layers = {f"model.layers.{number}": ("cpu", "disk")[number] for number in range(2)}
    others = dict.fromkeys(
        ("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head"), "cpu"
    )
    device_map = {"language_model": {**layers, **others}}
    train(override(recipe, {"device_map": device_map}), tmp_path / "spread", device="cpu")
    train(recipe, tmp_path / "whole", device="cpu")
    first, second = (
        load_file(tmp_path / name / "model.safetensors") for name in ("spread", "whole")
    )
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("backbones", "message"),
    [
        ({"load_in_4bit": True, "load_in_8bit": True}, "load_in_4bit and load_in_8bit contradict"),
        ({"quantization_config": 3}, "unknown quantization_config 3; allowed: 4bit, 8bit, none"),
        (
            {"device_map": "everywhere"},
            "device_map='everywhere' is no map; allowed: auto, b",
        ),
        ({"encoder_device": "cuda:99"}, "device 'cuda:99' is not available"),
    ],
)
def test_nothing_is_written_when_models_cannot_be_loaded_so(recipe, tmp_path, backbones, message):
    with pytest.raises(ConfigError, match=message):
        train(override(recipe, {"backbones": backbones}), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_flag_replaces_the_recipes_quantization(recipe):
    four = override(recipe, {"load_in_4bit": True})
    assert override(four, {"load_in_8bit": True}).backbones == {
        "dtype": "float32",
        "load_in_8bit": True,
    }
    assert override(recipe, {"load_in_4bit": True, "load_in_8bit": True}).backbones == {
        "dtype": "float32", "load_in_4bit": True, "load_in_8bit": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "processes", "message"),
    [
        ({}, 2, "device_map supports only one process, but there are 2; next: train in one "
         "process, or leave --device-map out"),
        ({"gradient_checkpointing": True, "torch_compile": True}, 1,
         "torch_compile cannot be combined with gradient checkpointing; next: leave one of them "
         "out"),
    ],
)  # fmt: skip
def test_arguments_that_contradict_each_other(monkeypatch, tmp_path, settings, processes, message):
    monkeypatch.setattr(TrainingArguments, "world_size", property(lambda _: processes))
    with pytest.raises(TrainingError) as caught:
        training_arguments(settings, tmp_path, device="cpu", spread=True)
    assert str(caught.value) == message
