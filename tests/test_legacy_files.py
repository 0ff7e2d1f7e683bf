"""Checkpoints, recipes, logs and results that 0.1.0 wrote still load, and mean what they meant.

The files were written by the code of 0.1.0 for the tiny backbones of these tests; only the paths
of the backbones and the rows were replaced.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from layerbridge.evaluation.results import read
from layerbridge.models.bridge import LayerBridge
from layerbridge.report.tables import accuracy_table
from layerbridge.training import recipe, weight_log
from layerbridge.training.run import train

FILES = Path(__file__).parent / "legacy" / "v0.1.0"
FUSIONS = ("token-softmax", "global-softmax", "fixed", "last")


@pytest.fixture
def old_run(folder, tmp_path):
    """Fusion → a copy of its run, with the backbones of this session in place."""

    def make(fusion):
        run = tmp_path / fusion
        shutil.copytree(FILES / fusion, run)
        rows = tmp_path / "rows.jsonl"
        texts = json.loads((run / "scores.json").read_text("utf-8"))["texts"]
        rows.write_text(
            "".join(json.dumps({"text": text, "label": "unit"}) + "\n" for text in texts), "utf-8"
        )
        backbones = {"ENCODER": folder("xlm-r"), "LANGUAGE_MODEL": folder("llama"), "ROWS": rows}
        for name in ("config.json", "recipe.yaml"):
            text = (run / name).read_text("utf-8")
            for placeholder, path in backbones.items():
                text = text.replace(placeholder, str(path))
            (run / name).write_text(text, "utf-8")
        return run

    return make


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_checkpoint_answers_as_it_did(old_run, fusion):
    run = old_run(fusion)
    bridge = LayerBridge.from_pretrained(run, dtype="float32")
    tensors = load_file(run / "model.safetensors")
    tensors["projection.std"] = tensors.pop("projection.deviation")
    loaded = bridge.trained_state_dict()
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    expected = json.loads((run / "scores.json").read_text("utf-8"))
    for answer, scores in zip(bridge.classify(expected["texts"]), expected["scores"], strict=True):
        # The backbones are drawn anew; another torch may draw or round otherwise.
        assert answer.scores == pytest.approx(scores, abs=2e-3)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_saved_copy_is_the_same_bridge(old_run, fusion, tmp_path):
    bridge = LayerBridge.from_pretrained(old_run(fusion), dtype="float32")
    bridge.save_pretrained(tmp_path / "copy")
    again = LayerBridge.from_pretrained(tmp_path / "copy", dtype="float32")
    for name, tensor in bridge.trained_state_dict().items():
        assert torch.equal(again.trained_state_dict()[name], tensor), name


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_recipe_trains_again(old_run, fusion, tmp_path):
    settings = recipe.read(old_run(fusion) / "recipe.yaml")
    assert settings.bridge["fusion"] == fusion
    assert settings.training["learning_rate"] == 1e-3
    train(settings, tmp_path / "again", device="cpu")
    again = recipe.read(tmp_path / "again" / "recipe.yaml")
    assert {**again.bridge, **settings.bridge} == again.bridge
    assert {**again.training, **settings.training} == again.training


@pytest.mark.parametrize("fusion", ["token-softmax", "global-softmax"])
def test_a_log_of_layer_weights(fusion):
    log = weight_log.read(FILES / fusion)
    assert list(log.steps) == [0, 1, 2, 3]
    assert log.first_layer == (0 if fusion == "global-softmax" else 1)


@pytest.mark.parametrize("name", ["score", "generate", "floor", "lm-alone"])
def test_a_result(name, tmp_path):
    path = FILES / f"result-{name}.json"
    result = read(path)
    assert list(result.languages) == ["en", "si", "sw"]
    assert {language.n for language in result.languages.values()} == {6}
    stored, again = (
        json.loads(file.read_text("utf-8")) for file in (path, result.write(tmp_path / "a.json"))
    )
    assert {**again, "method": None} == {**stored, "method": None}
    assert result.method in accuracy_table([result]).markdown()
