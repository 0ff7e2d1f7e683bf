"""A plan's file: what it means, and one line for each mistake."""

from __future__ import annotations

import pytest
import yaml

from layerbridge.errors import ConfigError
from layerbridge.models.centering import CenteringSettings
from layerbridge.reproducing import PlanRequest, RecipePlan

PLAN = {
    "encoder": "zoo:multilingual-e5-small",
    "language_model": "zoo:smollm2-135m-instruct",
    "task": "names",
    "settings": {"max_steps": 30, "learning_rate": "1e-3"},
    "methods": {
        "last": {"fusion": "last"},
        "noisy": {"state_noise": 0.25, "max_steps": 40},
        "noisy, centered": {"run_of": "noisy", "center": "batch", "centering": {"layers": [12]}},
    },
}


@pytest.fixture
def plan(tmp_path):
    def make(**changes):
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump({**PLAN, **changes}, sort_keys=False), encoding="utf-8")
        return RecipePlan.read(path)

    return make


def test_a_method_has_its_own_settings_and_those_of_all(plan, tmp_path):
    request = PlanRequest(plan(), tmp_path, device="cpu")
    assert request.methods == ("tf-idf", "last", "noisy", "noisy, centered")
    noisy = request.recipe("noisy", 2)
    assert noisy.training == {
        "max_steps": 40, "learning_rate": 1e-3, "state_noise": 0.25, "seed": 2,
    }  # fmt: skip
    assert noisy.bridge == {}
    assert noisy.backbones == {"dtype": "float32"}
    assert request.recipe("last", 0).bridge == {"fusion": "last"}
    assert request.recipe("noisy, centered", 2) == noisy
    assert request.run_of("noisy, centered") == "noisy"
    assert request.center("noisy, centered") == ("batch", CenteringSettings(layers=(12,)))
    assert request.center("last") == (None, None)
    assert request.run_of("tf-idf") is None


def test_a_recipe_is_the_base_of_all_methods(plan, tmp_path):
    request = PlanRequest(plan(recipe="small", max_rows=64), tmp_path, device="cpu")
    recipe = request.recipe("noisy", 0)
    assert recipe.bridge["instruction"] == " (label:"
    assert (recipe.training["max_steps"], recipe.max_rows) == (40, 64)


def test_what_a_plan_leaves_open_is_the_default_of_train(plan, tmp_path):
    from layerbridge.training.defaults import complete
    from layerbridge.training.run_data import RunData

    request = PlanRequest(plan(settings={}), tmp_path, device="cpu")
    data = RunData.of(request.task())
    made = request.recipe("last", 0, data)
    assert made == complete(request.recipe("last", 0), data)
    assert made.bridge["projection_start"] == "aligned"


def test_paths_are_relative_to_the_plan(plan, tmp_path):
    (tmp_path / "news.yaml").write_text("", encoding="utf-8")
    (tmp_path / "rows").mkdir()
    read = plan(task="news.yaml", task_options={"data_dir": "rows", "max_test": 3})
    assert read.task == str(tmp_path / "news.yaml")
    assert read.task_options == {"data_dir": str(tmp_path / "rows"), "max_test": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": {}}, "unknown setting of the plan '.*': 'method'; allowed: methods"),
        ({"methods": {}}, "methods of the plan .*at least 1"),
        ({"seeds": "0"}, "seeds of the plan .*valid list"),
        ({"seeds": [-1]}, r"seeds are \[-1\]; allowed: non-negative"),
        (
            {"methods": {"a": {"fusoin": "last"}}},
            "unknown setting of the method 'a': 'fusoin'; allowed: fusion",
        ),
        ({"against": ["lats"]}, "unknown method in against: 'lats'; allowed: last"),
        (
            {"methods": {"a": {"center": "all"}}},
            "center of 'a' is 'all'; allowed: none, known, nearest, batch",
        ),
        (
            {"methods": {"a": {"run_of": "b"}, "b": {}}},
            "run_of of 'a' is 'b'; allowed: a method that is trained and comes before",
        ),
        (
            {"methods": {"b": {}, "a": {"run_of": "b", "fusion": "last"}}},
            "'a' evaluates the runs of 'b' and sets what is trained; allowed: run_of, center",
        ),
        ({"recipe": "smal"}, "unknown recipe 'smal'"),
    ],
)
def test_a_mistake_is_one_line(plan, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        PlanRequest(plan(**changes), tmp_path, device="cpu")


def test_a_wrong_setting_of_centering_is_named(plan, tmp_path):
    methods = {"a": {"center": "batch", "centering": {"force": 1}}}
    request = PlanRequest(plan(methods=methods), tmp_path, device="cpu")
    with pytest.raises(ConfigError, match=r"centering of 'a' is .*allowed: .*strength"):
        request.center("a")


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a", "contains no settings"), ("a: [", "is not YAML"), (None, "cannot be read")],
)
def test_a_file_that_is_no_plan(tmp_path, text, message):
    path = tmp_path / "plan.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        RecipePlan.read(path)
