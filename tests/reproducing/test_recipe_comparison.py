"""A plan from its file to its comparison, on tiny models."""

from __future__ import annotations

import json
from functools import partial
from statistics import fmean, stdev

import pytest
import yaml

from layerbridge.errors import OutputError
from layerbridge.evaluation import results
from layerbridge.reproducing import PlanRequest, RecipePlan, compare_recipes, recipe_comparison

SETTINGS = {"max_steps": 2, "per_device_train_batch_size": 5, "projection_start": "scaled"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("gc.collect", lambda *_: 0)
    short = partial(recipe_comparison.compare, draws=50)
    monkeypatch.setattr(recipe_comparison, "compare", short)


@pytest.fixture
def request_of(folder, news, tmp_path):
    path = tmp_path / "plan.yaml"
    plan = {
        "title": "Noise and centering",
        "encoder": str(folder("xlm-r")),
        "language_model": str(folder("llama")),
        "task": "sinhala-news",
        "task_options": {"data_dir": str(news), "train_per_label": 4},
        "seeds": [0, 1],
        "settings": SETTINGS,
        "against": ["last", "token-softmax"],
        "methods": {
            "last": {"fusion": "last"},
            "token-softmax": {},
            "noisy": {"state_noise": 0.5},
            "noisy, centered": {"run_of": "noisy", "center": "batch"},
        },
    }

    def make(seeds=None, **changes):
        path.write_text(yaml.safe_dump({**plan, **changes}, sort_keys=False), encoding="utf-8")
        return PlanRequest(RecipePlan.read(path), tmp_path / "out", seeds=seeds, device="cpu")

    return make


def test_a_plan_is_trained_evaluated_and_compared(request_of, calls, tmp_path):
    comparison = compare_recipes(request_of())
    trained = [call for call in calls if call[0] == "train"]
    assert trained == [
        ("train", fusion, seed) for seed in (0, 1) for fusion in ("last", *["token-softmax"] * 2)
    ]
    out = tmp_path / "out"
    centered = results.read(out / "noisy, centered" / "seed-1" / "results/sinhala-news-score.json")
    assert centered.settings["centering"]["center"] == "batch"
    assert centered.run == str(out / "noisy" / "seed-1")
    assert not (out / "noisy, centered" / "seed-1" / "model.safetensors").exists()

    by_name = {each.method: each for each in comparison.summaries}
    assert list(by_name) == ["tf-idf", "last", "token-softmax", "noisy", "noisy, centered"]
    noisy = by_name["noisy"]
    runs = [results.read(out / f"noisy/seed-{n}/results/sinhala-news-score.json") for n in (0, 1)]
    accuracies = [100 * run.languages["si"].accuracy for run in runs]
    assert noisy.accuracy == pytest.approx(fmean(accuracies))
    assert noisy.spread == pytest.approx(stdev(accuracies))
    assert noisy.low <= noisy.accuracy <= noisy.high
    kept = []
    for seed in (0, 1):
        log = json.loads((out / f"noisy/seed-{seed}/training.json").read_text(encoding="utf-8"))
        kept.append(min(entry["eval_loss"] for entry in log if "eval_loss" in entry))
    assert noisy.validation_loss == pytest.approx(fmean(kept))
    assert by_name["noisy, centered"].validation_loss == noisy.validation_loss
    assert noisy.training_seconds > 0
    assert noisy.answer_seconds > 0
    assert by_name["noisy, centered"].training_seconds is None
    assert by_name["tf-idf"].validation_loss is None

    document = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    pairs = {(each["method"], each["against"]) for each in document["comparisons"]}
    assert ("noisy", "last") in pairs
    assert ("noisy", "token-softmax") in pairs
    assert [path.name for path in comparison.paths] == [
        "comparison.md", "comparison.json", "comparison.png",
    ]  # fmt: skip
    text = comparison.paths[0].read_text(encoding="utf-8")
    assert "# Noise and centering" in text
    assert "## Against token-softmax" in text
    line = next(row for row in text.splitlines() if row.startswith("| noisy | 2 |"))
    assert f"{noisy.accuracy:.1f} (" in line

    # Again: nothing is left to do. Other settings are refused, and only what is new is done.
    del calls[:]
    compare_recipes(request_of())
    assert calls == []
    with pytest.raises(OutputError, match="max_steps"):
        compare_recipes(request_of(settings={**SETTINGS, "max_steps": 3}))
    compare_recipes(request_of(seeds=[1, 0, 2]))
    assert {call[2] for call in calls if call[0] == "train"} == {2}


def test_one_method_and_one_seed(request_of):
    comparison = compare_recipes(
        request_of(seeds=[0], methods={"only": {"fusion": "last"}}, against=[], baselines=[])
    )
    assert comparison.comparisons == {}
    (summary,) = comparison.summaries
    assert summary.spread is None
    assert "| only | 1 |" in comparison.grid.markdown()
