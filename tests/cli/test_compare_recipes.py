"""``layerbridge compare-recipes``: where the output goes, and what a mistake says."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from layerbridge import reproducing
from layerbridge.report.tables.grid import Grid

DONE = SimpleNamespace(
    grid=Grid(["method", "seeds"], [["noisy", "2"]], 1),
    document={"title": "Noise"},
    paths=(Path("out/comparison.md"),),
)


@pytest.fixture
def requests(monkeypatch):
    made = []
    monkeypatch.setattr(
        reproducing, "compare_recipes", lambda request: made.append(request) or DONE
    )
    return made


def test_tables_on_stderr_and_paths_or_json_on_stdout(command, requests, tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "encoder: e\nlanguage_model: m\ntask: names\nmethods: {noisy: {state_noise: 0.1}}\n"
    )
    result = command("compare-recipes", plan, "--seeds", "3,4", "-o", tmp_path / "out")
    assert (result.code, result.out) == (0, "out/comparison.md\n")
    assert "noisy" in result.err
    (request,) = requests
    assert request.seeds == (3, 4)
    assert request.folder == tmp_path / "out"
    again = command("compare-recipes", plan, "--json")
    assert json.loads(again.out) == {"title": "Noise"}


def test_a_mistake_is_one_line(command, requests, tmp_path):
    result = command("compare-recipes", tmp_path / "none.yaml")
    assert result.code == 2
    assert result.err.startswith("error: the plan ")
    assert requests == []
