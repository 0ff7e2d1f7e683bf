"""Results of a small task, for all tests of the report."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from layerbridge import report
from layerbridge.evaluation.comparison import compare
from layerbridge.evaluation.results import CLASSIFIER, LanguageResult, Prediction, Result
from layerbridge.models.inference import LayerWeights
from layerbridge.report.drawings import Drawing
from layerbridge.training.weight_log import FILE, append

BRIDGE = {"encoder": "zoo:multilingual-e5-small", "fusion": "x"}


@pytest.fixture(scope="session", autouse=True)
def _few_draws():
    """Fewer bootstrap draws: the intervals are tested with the comparison."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("layerbridge.report.contents.compare", partial(compare, draws=100))
        yield


@pytest.fixture(scope="session")
def result():
    """Makes a result from the number of correct answers, of 20, in each language."""

    def make(method="last", seed=0, protocol="score", bridge=True, weights=None, **right):
        languages = {
            code: LanguageResult.of(
                [
                    Prediction(f"{code}{i}", "ab"[i % 2], f"{seed}", (i * 7 + seed) % 20 < count)
                    for i in range(20)
                ],
                weights.get(code) if isinstance(weights, dict) else weights,
            )
            for code, count in right.items()
        }
        settings = {"options": ["a", "b"], "task_version": "1", "normalize": "sum"}
        if bridge:
            settings["bridge"] = {**BRIDGE, "fusion": method}
        return Result(
            method, "names", protocol, "test", seed, languages, settings,
            {"layerbridge": "0.1.0", "torch": "2.13.0"},
            run=f"runs/{method}" if bridge else None,
            created=f"2026-11-2{seed}T10:00:00+00:00",
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def results(result):
    """A baseline, a bridge to compare with, and two seeds of another one."""
    varied = {"en": [0.2, 0.8], "si": [0.4, 0.6], "sw": [0.3, 0.7]}
    return [
        result("token-softmax", 0, en=16, si=12, sw=11, weights=varied),
        result("token-softmax", 1, en=18, si=14, sw=9, weights=varied),
        result("tf-idf", protocol=CLASSIFIER, bridge=False, en=10, si=3, sw=4),
        result("last", en=15, si=5, sw=8, weights=[0.0, 1.0]),
    ]


@pytest.fixture(scope="session")
def runs(results, tmp_path_factory):
    """A folder with these results, and the recipe and weight log of a run; read-only."""
    folder = tmp_path_factory.mktemp("report") / "runs"
    for number, made in enumerate(results):
        made.write(folder / "results" / f"{number}.json")
    run = folder / "token-softmax"
    run.mkdir()
    (run / "recipe.yaml").write_text("encoder: zoo:x\ntask: names # <b>\n", encoding="utf-8")
    for step in range(4):
        append(run / FILE, step, [step / 10, 1 - step / 10])
    return folder


@pytest.fixture(scope="session")
def sentence():
    """A text in three scripts, token by token."""
    tokens = ["<s>", "▁ශ්‍රී", "▁العربية", "</s>"]
    weights = torch.tensor([[0.0, 1.0], [0.25, 0.75], [0.5, 0.5], [0.1, 0.9]])
    return "ශ්‍රී العربية", LayerWeights(tokens, weights)


@pytest.fixture(scope="session")
def written(runs, sentence):
    """The whole report of these runs, with a text."""
    return report.write(runs, runs.parent / "out" / "report.html", sentences=[sentence])


@pytest.fixture
def undrawn(monkeypatch):
    """Empty figures, for tests of texts and numbers: drawing is slow."""

    def draw(id_, plot, data, **options):
        return Drawing(id_, "<svg></svg>", "<svg></svg>")

    monkeypatch.setattr("layerbridge.report.drawings.draw", draw)
