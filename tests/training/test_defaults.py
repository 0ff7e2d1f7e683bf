import pytest

from layerbridge.models.config import BridgeConfig
from layerbridge.models.fusion.registry import STRATEGIES
from layerbridge.tasks import Row
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.defaults import complete, watched
from layerbridge.training.recipe import Recipe, read
from layerbridge.training.run_data import RunData

ROWS = [Row(str(n), f"text {n}", ("a", "b")[n % 2], "en") for n in range(50)]


def data(options=("a", "b"), validation=ROWS[40:]):
    return RunData(ROWS[:40], list(validation), list(options), None, "rows")


def best(**training):
    settings = watched(training)
    return settings.get("load_best_model_at_end", False)


def test_validation_is_watched_and_the_best_checkpoint_kept():
    assert watched({}) == {
        "eval_strategy": "steps",
        "eval_steps": 0.2,
        "save_strategy": "steps",
        "save_steps": 0.2,
        "load_best_model_at_end": True,
    }
    assert watched({"num_train_epochs": 2}) == {
        "num_train_epochs": 2,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
    }
    assert watched({"eval_strategy": "no", "max_steps": 3}) == {
        "eval_strategy": "no",
        "max_steps": 3,
    }
    assert watched({"eval_steps": 5})["save_steps"] == 5


@pytest.mark.parametrize(
    "training",
    [
        {"save_strategy": "no"},
        {"save_strategy": "epoch"},
        {"save_strategy": "steps", "save_steps": 50},
        {"eval_strategy": "epoch", "save_strategy": "steps", "save_steps": 5},
        {"load_best_model_at_end": False},
    ],
)
def test_what_the_user_says_about_saving_is_kept(training, tmp_path):
    settings = watched(training)
    assert {**settings, **training} == settings
    assert not settings.get("load_best_model_at_end")
    BridgeTrainingArguments(output_dir=str(tmp_path), **settings)


@pytest.mark.parametrize("fusion", STRATEGIES)
def test_a_completed_recipe_has_all_that_decides_the_run(fusion, tmp_path):
    recipe = complete(Recipe(data="rows.csv", bridge={"fusion": fusion}), data())
    assert recipe.options == ["a", "b"]
    assert recipe.bridge["start"] == ("uniform" if fusion in ("uniform", "fixed") else "last")
    assert recipe.bridge["projection_start"] == "aligned"
    assert recipe.bridge["instruction"] == " (category:"
    scale = {"global-softmax": 0.03, "token-softmax": 0.1}.get(fusion, 1.0)
    assert recipe.training["fusion_learning_rate_scale"] == scale
    assert recipe.training["max_steps"] == 100
    assert recipe.training["eval_steps"] == recipe.training["save_steps"] == 20
    # Nothing that decides a step is left to defaults that may change.
    arguments = BridgeTrainingArguments(output_dir=str(tmp_path), **recipe.training)
    for name in ("learning_rate", "per_device_train_batch_size", "adam_beta1", "clip_by_part"):
        assert recipe.training[name] == getattr(arguments, name)
    BridgeConfig(**recipe.bridge)
    assert complete(recipe, data()) == recipe


def test_no_number_of_steps_is_one_by_the_rows():
    made = complete(Recipe(data="rows.csv", training={"max_steps": -1}), data())
    assert made.training["max_steps"] == 100
    epochs = {"max_steps": -1, "num_train_epochs": 2}
    assert complete(Recipe(data="rows.csv", training=epochs), data()).training["max_steps"] == -1


def test_what_is_given_stays():
    bridge = {"fusion": "last", "instruction": "", "projection_start": "random", "start": "uniform"}
    training = {"num_train_epochs": 1, "learning_rate": 1e-4, "fusion_learning_rate_scale": 1}
    made = complete(Recipe(data="rows.csv", bridge=bridge, training=training), data())
    assert made.bridge == bridge
    assert {**made.training, **training} == made.training
    assert "max_steps" not in made.training


def test_free_text_has_no_instruction_and_few_rows_no_validation():
    made = complete(Recipe(data="rows.csv"), RunData(ROWS, [], None, None, "rows"))
    assert "instruction" not in made.bridge
    assert made.options is None
    assert "eval_strategy" not in made.training


def test_the_papers_recipe_stays_the_papers():
    paper = read("paper")
    made = complete(paper, data())
    assert made.bridge == paper.bridge
    assert {name: made.training[name] for name in paper.training} == paper.training
    added = made.training.keys() - paper.training.keys()
    assert not added, added
