"""The presets against the recipes beside them, and the paper's on tiny models."""

from __future__ import annotations

import pytest

from layerbridge.demo import FUSIONS, DemoSettings
from layerbridge.errors import ConfigError
from layerbridge.models.bridge import LayerBridge
from layerbridge.reproducing import Request, catalog, reproduce
from layerbridge.training import recipe
from layerbridge.training.arguments import BridgeTrainingArguments

BENCHMARKS = ("table1", "table2", "table3", "table4", "xsid", "sib200")


def test_paper_is_the_papers_recipe():
    ours = Request("table1", preset="paper", allow_pickle=True).recipe("token-softmax", 0)
    theirs = recipe.read("paper")
    assert theirs.bridge.pop("instruction") == ""  # none, which ours leaves out
    for name in ("encoder", "language_model", "bridge", "training", "max_rows", "backbones"):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_small_is_the_published_recipe(monkeypatch):
    request = Request("table1", preset="small", device="cpu")
    ours = request.recipe("token-softmax", 0)
    theirs = recipe.read("small")
    for name in ("encoder", "language_model", "bridge", "training", "max_rows"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert request.dtype == "float32"


def test_small_has_the_demos_settings():
    demo = DemoSettings()
    for fusion in FUSIONS:
        found = Request("xsid", device="cpu").recipe(fusion, 1)
        assert found.training["learning_rate"] == demo.learning_rate
        assert found.training["per_device_train_batch_size"] == demo.batch_size
        assert found.bridge["projection_start"] == demo.projection_start
        # The demo leaves these to the fusion, and to the defaults.
        assert "fusion_learning_rate_scale" not in found.training
        assert found.training["clip_by_part"]
        assert found.training["adam_beta1"] == BridgeTrainingArguments.adam_beta1
        assert found.bridge["instruction"] == " (intent:"


@pytest.mark.parametrize("name", catalog.presets())
@pytest.mark.parametrize("experiment", BENCHMARKS)
def test_recipes_can_be_run_as_they_are(name, experiment, tmp_path):
    request = Request(experiment, preset=name, device="cpu")
    for fusion in request.preset.fusions:
        made = request.recipe(fusion, 2)
        made.check()
        made.write(tmp_path)
        assert recipe.read(tmp_path / recipe.FILE) == made
    # As many of each label, and no more than the budget in all.
    labels = len(request.task().options)
    each = made.task_options["train_per_label"]
    assert request.preset.rows - labels < each * labels <= request.preset.rows


def test_the_papers_budget():
    paper = catalog.preset("paper")
    made = Request("table1", preset="paper").recipe("last", 0)
    assert (paper.rows_per_step, paper.rows, paper.test_rows) == (8, 100_000, None)
    assert made.task_options["train_per_label"] == 33_333
    assert made.training["num_train_epochs"] == 3
    assert "max_steps" not in made.training
    assert "instruction" not in made.bridge


def test_an_unknown_preset():
    with pytest.raises(ConfigError, match="unknown preset 'large'; allowed: paper, small, d"):
        Request("table1", preset="large")


def test_the_paper_preset_trains_and_answers_in_its_way(folder, news, quick, tmp_path):
    """All of it but the size: mT5's and Llama's architectures, bfloat16, epochs, both protocols."""
    outcome = reproduce(
        Request(
            "table3",
            preset="paper",
            encoder=str(folder("mt5")),
            language_model=str(folder("llama")),
            data_dir=news,
            output_dir=tmp_path,
            seeds=(0,),
            max_rows=10,
            max_test=2,
            device="cpu",
        )
    )
    assert [table["protocol"] for table in outcome.document["tables"]] == ["generate", "score"]
    text = (tmp_path / "table3" / "paper" / "table.md").read_text(encoding="utf-8")
    assert "exact match with the label word, as in the paper" in text
    assert "does not test it" not in text
    run = tmp_path / "table3" / "paper" / "token-softmax" / "seed-0"
    # 10 rows, 8 a step, three times.
    assert [path.name for path in run.glob("checkpoint-*")] == ["checkpoint-6"]
    bridge = LayerBridge.from_pretrained(run, dtype="bfloat16")
    assert (bridge.config.start, bridge.config.projection_start) == ("uniform", "random")
