"""Checkpoints with the names and shapes of others, made from a bridge whose answers are known."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from layerbridge.errors import CheckpointError
from layerbridge.models.bridge import LayerBridge
from layerbridge.training.checkpoint_import import import_checkpoint

TEXTS = ["the market rose", "ම ශ්"]
OURS = {"fusion.block.": "encoder_mt.layer_weights.transformerEncoder.layers.0."}
AUTHORS = {
    "projection.linear.weight": "mapping.mlp.fc.weight",
    "projection.linear.bias": "mapping.mlp.fc.bias",
    "projection.boundary": "mapping.end_boundary",
    "fusion.w": "encoder_mt.layer_weights_lb",
    "fusion.theta": "encoder_mt.temp",
    "fusion.query": "encoder_mt.layer_weights.cls",
    "fusion.position": "encoder_mt.layer_weights.layer_pos_emb",
    "fusion.score.weight": "encoder_mt.layer_weights.layer_weights.weight",
    "fusion.score.bias": "encoder_mt.layer_weights.layer_weights.bias",
}
COPIES = ("encoder_mt.embedding_model_base.x", "model_llm.model.x", "llm_embedding_layer.weight")


@pytest.fixture
def plain(make_bridge):
    """A bridge as theirs: nothing is standardized."""

    def make(fusion, **settings):
        bridge = make_bridge("mt5", "llama", fusion, **settings)
        bridge.projection.mean.zero_()
        bridge.projection.std.fill_(1)
        return bridge

    return make


@pytest.fixture
def models(folder):
    return {"encoder": str(folder("mt5")), "language_model": str(folder("llama"))}


def of_authors(bridge):
    tensors = {name: torch.ones(2) for name in COPIES}
    for name, tensor in bridge.trained_state_dict().items():
        if name in ("projection.mean", "projection.std"):
            continue
        theirs = AUTHORS.get(name) or name.replace("fusion.block.", OURS["fusion.block."])
        shape = {"mapping.end_boundary": (1, 1, -1), "encoder_mt.layer_weights.cls": (1, 1, -1)}
        tensors[theirs] = tensor.reshape(shape.get(theirs, tensor.shape)).clone()
    return tensors


def of_langbridge(bridge, whole):
    trained = bridge.trained_state_dict()
    tensors = {
        "lb.alignment.linear.weight": trained["projection.linear.weight"],
        "lb.alignment.linear.bias": trained["projection.linear.bias"],
        "lb.alignment.enc_eos": trained["projection.boundary"],
    }
    for name, tensor in whole("mt5").state_dict().items():
        if name == "shared.weight" or name.startswith("encoder."):
            tensors["lb.enc." + name] = tensor
    for name, tensor in whole("llama").state_dict().items():
        is_body = name.startswith("model.")
        tensors["lb." + (name.replace("model.", "lm.", 1) if is_body else name)] = tensor
    tensors["lb.embeddings.weight"] = tensors["lb.lm.embed_tokens.weight"]
    return tensors


def scores(bridge):
    return [each.scores for each in bridge.classify(TEXTS, ["country", "unit"])]


def close(run, bridge):
    imported = LayerBridge.from_pretrained(run, dtype="float32")
    for mine, theirs in zip(scores(bridge), scores(imported), strict=True):
        assert theirs == pytest.approx(mine, abs=1e-4)
    return imported


@pytest.mark.parametrize(
    ("fusion", "form"),
    [("last", "x.safetensors"), ("global-softmax", "x.pt"), ("token-softmax", "x.bin")],
)
def test_a_checkpoint_of_the_authors(plain, models, tmp_path, capfd, fusion, form):
    options = {"heads": 1, "feedforward": 32} if fusion == "token-softmax" else {}
    bridge = plain(fusion, fusion_options=options)
    tensors, file = of_authors(bridge), tmp_path / form
    if form == "x.safetensors":
        save_file(tensors, file)
    else:  # as training loops write them
        torch.save({"model_state_dict": {f"module.{k}": t for k, t in tensors.items()}}, file)
    import_checkpoint(
        file, tmp_path / "run", **models, options=["country", "unit"], template="{text} Label: "
    )
    assert capfd.readouterr().err.endswith(
        f"the paper's authors: fusion {fusion}, {len(bridge.trained_state_dict())} tensors of the "
        "bridge, 3 copies of others dropped\n"
    )
    imported = close(tmp_path / "run", bridge)
    assert imported.config.fusion == fusion
    assert imported.config.options == ["country", "unit"]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("README.md", "config.json", "model.safetensors")
    }


def test_a_checkpoint_of_langbridge_brings_its_backbones(plain, models, whole, tmp_path):
    bridge, source = plain("last"), tmp_path / "theirs"
    source.mkdir()
    torch.save(of_langbridge(bridge, whole), source / "pytorch_model.bin")
    names = {"enc": models["encoder"], "lm": models["language_model"]}
    (source / "config.json").write_text(json.dumps({"model_type": "langbridge", **names}))
    import_checkpoint(source, tmp_path / "run")
    run = (tmp_path / "run").rename(tmp_path / "moved")
    config = json.loads((run / "config.json").read_text())
    assert (config["encoder"], config["language_model"]) == ("./encoder", "./language-model")
    imported = close(run, bridge)
    assert imported.config.max_text_tokens <= 1024
    head = load_file(run / "language-model" / "model.safetensors")["lm_head.weight"]
    assert torch.equal(head, whole("llama").lm_head.weight)
    # White space is tokens of its own where the model has embeddings for them.
    assert imported.encoder.tokenizer("a\tb")["input_ids"]


def test_shards(plain, models, tmp_path):
    bridge, source = plain("last"), tmp_path / "theirs"
    source.mkdir()
    shards = {}
    for number, (name, tensor) in enumerate(of_authors(bridge).items()):
        shards[name] = f"model-{number}.safetensors"
        save_file({name: tensor}, source / shards[name])
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    import_checkpoint(source, tmp_path / "run", **models)
    close(tmp_path / "run", bridge)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"mapping.mlp.fc.weight": Malicious()}, "holds more than weights, and reading it could"),
        ([1, 2], "holds no tensors by name; allowed: a state_dict"),
        ({"a.b": torch.ones(1)}, "is no checkpoint of LangBridge or of the paper's authors: its"),
        (
            {"lb.alignment.linear.weight": torch.ones(1, 1), "lb.alignment.ffn.0": torch.ones(1)},
            "has a tensor 'lb.alignment.ffn.0', which no bridge has; allowed: LangBridge with the",
        ),
        (
            {"mapping.mlp.fc.weight": torch.ones(1, 1), "encoder_mt.other": torch.ones(1)},
            "has a tensor 'encoder_mt.other', which no bridge has; allowed: the fusions",
        ),
        (b"", "is damaged or missing"),
    ],
)
def test_what_is_refused(models, tmp_path, content, problem):
    file = tmp_path / "x.pt"
    if content == b"":
        file.write_bytes(b"PK\x03\x04 half a file")
    else:
        torch.save(content, file)
    refused(problem, file, tmp_path, **models)


def test_what_does_not_fit(plain, models, tmp_path):
    file = tmp_path / "x.safetensors"
    tensors = of_authors(plain("last"))
    save_file({**tensors, "mapping.mlp.fc.bias": torch.ones(3)}, file)
    refused(
        "has 'projection.linear.bias' of shape [3]; allowed: shape [48]", file, tmp_path, **models
    )
    save_file(tensors, file)
    refused("does not say which encoder it belongs to; next: --encoder with", file, tmp_path)
    refused("there is no checkpoint", tmp_path / "absent", tmp_path, **models)
    refused("is no file of weights", __file__, tmp_path, **models)
    (tmp_path / "empty").mkdir()
    refused("has several files of weights or none (none)", tmp_path / "empty", tmp_path, **models)


def refused(problem, checkpoint, tmp_path, **models):
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(Path(checkpoint), tmp_path / "run", **models)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".importing-*"))
