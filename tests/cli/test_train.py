import json
import shlex

import pytest
import torch
import yaml
from safetensors.torch import load_file

from layerbridge.cli.train import training_flags
from layerbridge.errors import ConfigError
from layerbridge.models.bridge import LayerBridge
from layerbridge.training import run
from layerbridge.training.recipe import Recipe
from layerbridge.training.resume import RowsRecord


@pytest.fixture
def seen(monkeypatch):
    """What ``run.train`` is called with, instead of training."""
    calls = []
    monkeypatch.setattr(
        run, "train", lambda recipe, output, **settings: calls.append((recipe, output, settings))
    )
    return calls


def test_train_from_flags(command, train_flags, tmp_path):
    output = tmp_path / "run"
    result = command(
        "train", *train_flags, "--options", "country, unit", "--fusion", "global-softmax",
        "--learning-rate", "1e-2", "--fusion-learning-rate-scale=0.1", "--bf16", "false",
        "--logging-steps", "1", "-o", output,
    )  # fmt: skip
    assert (result.code, result.out) == (0, f"{output}\n")
    assert [line.split(",")[0].split(":")[0] for line in result.err.splitlines()] == [
        "no rows are held out for validation",
        f"4 English rows of {train_flags[1]}",
        "training global-softmax",
        "note",
    ]
    bridge = LayerBridge.from_pretrained(output, dtype="float32")
    assert bridge.config.fusion == "global-softmax"
    assert bridge.config.options == ["country", "unit"]
    written = yaml.safe_load((output / "recipe.yaml").read_text())
    given = {
        "max_steps": 2,
        "learning_rate": 0.01,
        "fusion_learning_rate_scale": 0.1,
        "bf16": False,
        "logging_steps": 1,
    }
    assert {**written["training"], **given} == written["training"]
    log = json.loads((output / "training.json").read_text())
    assert [line["step"] for line in log if "loss" in line] == [1, 2]
    # The run's own recipe is all that a second run needs.
    again = command("train", "--recipe", output / "recipe.yaml", "-o", tmp_path / "again")
    assert again.code == 0
    first, second = (
        load_file(folder / "model.safetensors") for folder in (output, tmp_path / "again")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_interrupted_and_resumed_with_the_printed_line(
    command, train_flags, tmp_path, monkeypatch, ctrl_c
):
    def at_the_first_step(self, args, state, control, **_):
        if state.global_step == 1:
            ctrl_c()

    flags = [*train_flags, "--options", "country, unit", "--seed", "3", "--learning-rate", "1e-2"]
    whole, output = tmp_path / "whole", tmp_path / "a run"
    assert command("train", *flags, "-o", whole).code == 0
    with monkeypatch.context() as patched:
        patched.setattr(RowsRecord, "on_step_end", at_the_first_step, raising=False)
        result = command("train", *flags, "-o", output)
    assert (result.code, result.out) == (130, "")
    *_, last = result.err.splitlines()
    assert last == (
        f"interrupted at step 1 of 2, saved in {output / 'checkpoint-1'}; next: layerbridge train "
        f"--resume -o '{output}'"
    )
    assert "Traceback" not in result.err
    changed = command("train", "--resume", "-o", output, "--seed", "4")
    assert changed.code == 2
    assert "cannot continue with seed=4 (was 3); allowed: " in changed.err
    line = last.partition("next: layerbridge ")[2]
    resumed = command(*shlex.split(line), "--logging-steps", "1")
    assert (resumed.code, resumed.out) == (0, f"{output}\n")
    assert "resuming with logging_steps=1 (was 10)\n" in resumed.err
    assert f"resuming from {output / 'checkpoint-1'}: step 1 of 2\n" in resumed.err
    first, second = (load_file(run / "model.safetensors") for run in (whole, output))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_resume_with_a_recipe_or_flags_of_ones_own(command, seen, train_flags, tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    (tmp_path / "run" / "checkpoint-1").mkdir(parents=True)
    assert command("train", *train_flags, "--resume", "-o", tmp_path / "run").code == 0
    (tmp_path / "run" / "recipe.yaml").write_text(RECIPE.replace("seed: 4", "seed: 5"))
    for words in ([], ["--seed", "6"], ["--recipe", tmp_path / "r.yaml"]):
        assert command("train", *words, "--resume", "-o", tmp_path / "run").code == 0
    recipes = [recipe for recipe, *_ in seen]
    assert recipes[0].data == str(train_flags[1])
    assert [recipe.training["seed"] for recipe in recipes[1:]] == [5, 6, 4]
    assert all(recipe.bridge["fusion"] == "last" for recipe in recipes[1:])


RECIPE = """
encoder: recipe-encoder
language_model: recipe-lm
task: names
task_options: {train_per_kind: 9}
bridge: {fusion: last, boundary: false}
backbones: {dtype: float32}
training: {learning_rate: 1e-3, seed: 4, bf16: true}
"""


def test_a_recipe(command, seen, tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    assert command("train", "--recipe", tmp_path / "r.yaml", "-o", "run").code == 0
    ((recipe, output, settings),) = seen
    assert recipe == Recipe(
        encoder="recipe-encoder",
        language_model="recipe-lm",
        task="names",
        task_options={"train_per_kind": 9},
        bridge={"fusion": "last", "boundary": False},
        backbones={"dtype": "float32"},
        training={"learning_rate": 1e-3, "seed": 4, "bf16": True},
    )
    assert str(output) == "run"
    assert settings == {"overwrite": False, "resume": False, "device": None}


def test_flags_override_the_recipe(command, seen, tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    command(
        "train", "--recipe", tmp_path / "r.yaml", "-o", "run", "--encoder", "flag-encoder",
        "--fusion", "uniform", "--learning-rate", "3e-5", "--dtype", "bfloat16", "--max-rows", "7",
        "--instruction", "12", "--overwrite", "--device", "cpu", "--trust-remote-code",
    )  # fmt: skip
    ((recipe, _, settings),) = seen
    assert recipe == Recipe(
        encoder="flag-encoder",
        language_model="recipe-lm",
        task="names",
        max_rows=7,
        task_options={"train_per_kind": 9},
        bridge={"fusion": "uniform", "boundary": False, "instruction": "12"},
        backbones={"dtype": "bfloat16", "trust_remote_code": True},
        training={"learning_rate": 3e-5, "seed": 4, "bf16": True},
    )
    assert settings == {"overwrite": True, "resume": False, "device": "cpu"}


def test_training_arguments_pass_through(command, seen):
    command(
        "train", "--task", "names", "--learning-rate", "1e-3", "--bf16", "-o", "run",
        "--encoder", "e", "--language-model", "l", "--gradient-accumulation-steps=4",
        "--lr-scheduler-type", "linear", "--resume",
    )  # fmt: skip
    ((recipe, _, settings),) = seen
    assert recipe.training == {
        "learning_rate": 1e-3,
        "bf16": True,
        "gradient_accumulation_steps": 4,
        "lr_scheduler_type": "linear",
    }
    assert settings["resume"]


def test_a_task_with_folders_and_options(command, seen):
    command(
        "train", "--task", "xnli", "--data-dir", "a", "--data-dir", "b", "-o", "run",
        "--task-option", "train_per_label=20000", "--encoder", "e", "--language-model", "l",
    )  # fmt: skip
    ((recipe, _, _),) = seen
    assert recipe.task == "xnli"
    assert recipe.task_options == {"data_dir": ["a", "b"], "train_per_label": 20000}
    assert recipe.training == {}


def test_the_recipes_task_options_stay(command, seen, tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    command("train", "--recipe", tmp_path / "r.yaml", "-o", "run", "--task-option", "seed=3")
    assert seen[0][0].task_options == {"train_per_kind": 9, "seed": 3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--task", "names", "--data-dir", "rows"],
            "the task names has no option 'data_dir'; allowed: languages, train_per_kind, "
            "test_per_kind, seed",
        ),
        (
            ["--data", "rows.jsonl", "--data-dir", "rows"],
            "the task option 'data_dir' works only with --task, not with --data",
        ),
        (
            ["--task", "xnli", "--data-dir", "no/such/folder"],
            "the folder no/such/folder does not exist; next: check data_dir",
        ),
        (
            ["--task", "no/such/task.yaml"],
            "cannot read the task file no/such/task.yaml (No such file or directory); next: "
            "check the path",
        ),
    ],
)
def test_a_folder_that_does_not_fit(command, folder, tmp_path, words, message):
    result = command(
        "train", *words, "--encoder", folder("xlm-r"), "--language-model", folder("llama"),
        "-o", tmp_path / "run",
    )  # fmt: skip
    assert (result.code, result.out, result.err) == (2, "", f"error: {message}\n")
    assert not (tmp_path / "run").exists()


def test_batches_of_tokens_and_cached_states(command, train_flags, tmp_path):
    output = tmp_path / "run"
    result = command(
        "train", *train_flags, "--tokens-per-batch", "40", "--cache-states", "-o", output
    )  # fmt: skip
    assert result.code == 0
    assert [line.split(":")[0] for line in result.err.splitlines()] == [
        "no rows are held out for validation",
        f"4 English rows of {train_flags[1]}, 2 steps; loading the models …",
        "states of 4 texts",
        "encoding texts",
        "training token-softmax",
    ]
    written = yaml.safe_load((output / "recipe.yaml").read_text())
    assert written["cache_states"] is True
    given = {"max_steps": 2, "tokens_per_batch": 40}
    assert {**written["training"], **given} == written["training"]


@pytest.mark.parametrize("tokens", ["0", "many", "1.5"])
def test_a_budget_that_is_no_number_of_tokens(command, train_flags, tmp_path, tokens):
    result = command("train", *train_flags, "--tokens-per-batch", tokens, "-o", tmp_path / "run")
    given = tokens if tokens != "many" else "'many'"
    assert (result.code, result.out, result.err) == (
        2,
        "",
        f"error: tokens_per_batch={given} is not valid; allowed: a positive integer\n",
    )


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ([], {}),
        (["--learning-rate", "1e-3"], {"learning_rate": 0.001}),
        (["--bf16"], {"bf16": True}),
        (["--bf16", "--seed", "3"], {"bf16": True, "seed": 3}),
        (["--bf16=false", "--seed=3"], {"bf16": False, "seed": 3}),
        (["--max_steps", "5", "--run-name", "a=b"], {"max_steps": 5, "run_name": "a=b"}),
        (["--max-grad-norm", "-1"], {"max_grad_norm": -1}),
    ],
)
def test_training_flags(words, flags):
    assert training_flags(words) == flags


@pytest.mark.parametrize("words", [["stray"], ["--seed", "1", "stray"], ["--seed=1", "stray"]])
def test_a_stray_word(words):
    with pytest.raises(ConfigError) as caught:
        training_flags(words)
    assert str(caught.value) == "unexpected argument 'stray'; allowed: flags: --name value"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--learning-rat", "1"],
            "unknown flag: '--learning-rat'; allowed: --learning-rate, "
            "--fusion-learning-rate-scale, --logging-strategy",
        ),
        (
            ["--encodr", "e"],
            "unknown flag: '--encodr'; allowed: --encoder, --encoder-device, --encoder-dropout",
        ),
        (["--max_rows", "3"], "unknown flag: '--max_rows'; allowed: --max-rows"),
        (["--zzzzzz"], "unknown flag: '--zzzzzz'; next: layerbridge train --help"),
    ],
)
def test_an_unknown_flag(command, seen, train_flags, words, message):
    result = command("train", *train_flags, *words, "-o", "run")
    assert (result.code, result.out, result.err) == (2, "", f"error: {message}\n")
    assert seen == []
