import dataclasses
import json
import shutil

import pytest

from layerbridge.errors import CheckpointError, ConfigError, OutputError
from layerbridge.models.config import BridgeConfig
from layerbridge.tasks import Row
from layerbridge.training import run
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.output import LOG
from layerbridge.training.recipe import BACKBONES, BRIDGE, Recipe, read
from layerbridge.training.resume import (
    RowsRecord,
    begin_at,
    check_same_run,
    rows_sha256,
    with_same_steps,
)
from layerbridge.training.run import train
from layerbridge.training.step_size import SETTINGS, StepSize

TEXTS = {"the market": "Sports", "the players": "Science", "a star": "Sports", "teams": "Science"}


def write_rows(path, texts=TEXTS):
    lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in texts.items()]
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def recipe(folder, tmp_path_factory):
    return Recipe(
        encoder=str(folder("xlm-r")),
        language_model=str(folder("llama")),
        data=write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl"),
        target="label",
        options=["Sports", "Science"],
        bridge={
            "fusion": "global-softmax",
            "start": "uniform",
            "projection_start": "random",
            "instruction": "",
        },
        backbones={"dtype": "float32"},
        training={
            "num_train_epochs": 2,
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-2,
            "fusion_learning_rate_scale": 1.0,
        },
    )


@pytest.fixture(scope="module")
def broken(recipe, tmp_path_factory):
    """A run of four steps that ended after the checkpoint of its second."""
    output = tmp_path_factory.mktemp("broken") / "run"

    def interrupted(self, args, state, control, **_):
        if state.global_step == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run.ProgressCallback, "on_step_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, output, device="cpu")
    return output


@pytest.fixture
def output(broken, tmp_path):
    """A copy of that run."""
    return shutil.copytree(broken, tmp_path / "run")


def changed(recipe, name, value):
    """The recipe with another value of a setting, in whichever section."""
    fields = {field.name for field in dataclasses.fields(BridgeTrainingArguments)}
    section = "bridge" if name in BRIDGE else "training" if name in fields else None
    section = "backbones" if name in BACKBONES else section
    if section is None:
        return dataclasses.replace(recipe, **{name: value})
    return dataclasses.replace(recipe, **{section: {**getattr(recipe, section), name: value}})


FIXED = {
    "template": "News: {text}",
    "options": ["Science", "Sports"],
    "fusion": "last",
    "fusion_options": {"heads": 2},
    "start": "last",
    "embedding_layer": True,
    "normalize": "rms",
    "projection_start": "scaled",
    "boundary": False,
    "instruction": "Label:",
    "max_text_tokens": 7,
    "text_prefix": "query: ",
    "encoder_language": "en_XX",
    "dtype": "bfloat16",
    "learning_rate": 2e-2,
    "lr_scheduler_type": "linear",
    "warmup_steps": 3,
    "optim": "sgd",
    "weight_decay": 0.1,
    "adam_beta1": 0.8,
    "max_grad_norm": 2.0,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "tokens_per_batch": 100,
    "train_sampling_strategy": "random",
    "dataloader_drop_last": True,
    "fusion_learning_rate_scale": 0.1,
    "clip_by_part": False,
    "seed": 1,
    "data_seed": 1,
    "bf16": True,
    "full_determinism": True,
}
FREE = {
    "num_train_epochs": 5,
    "max_steps": 9,
    "logging_steps": 1,
    "save_strategy": "no",
    "save_total_limit": 3,
    "validation_data": "more.jsonl",
    "cache_states": True,
    "report_to": "tensorboard",
    "dataloader_num_workers": 2,
    "torch_compile": True,
    "attn_implementation": "eager",
    "trust_remote_code": True,
    "allow_pickle": True,
}


@pytest.mark.parametrize("name", FIXED)
def test_what_decides_a_step_may_not_change(recipe, output, name):
    rows = [Row("1", text, label, "en") for text, label in TEXTS.items()]
    with pytest.raises(ConfigError) as caught:
        check_same_run(changed(recipe, name, FIXED[name]), rows, output)
    before = {field.name: field.default for field in dataclasses.fields(BridgeTrainingArguments)}
    before |= vars(BridgeConfig()) | recipe.training | recipe.bridge | recipe.backbones
    before |= {"template": None, "options": recipe.options}
    assert str(caught.value) == (
        f"the run in {str(output)!r} cannot continue with {name}={FIXED[name]!r} (was "
        f"{before[name]!r}); allowed: changes to epochs, steps, logging, saving and validation; "
        "next: resume with the run's own settings, or train in another folder"
    )


@pytest.mark.parametrize("name", FREE)
def test_what_is_only_watched_or_counted_may_change(recipe, output, capfd, name):
    rows = [Row("1", text, label, "en") for text, label in TEXTS.items()]
    check_same_run(changed(recipe, name, FREE[name]), rows, output)
    assert capfd.readouterr().err.startswith(f"resuming with {name}={FREE[name]!r} (was ")


def test_the_best_loss_is_of_the_same_rows(recipe, output):
    rows = [Row("1", text, label, "en") for text, label in TEXTS.items()]
    best = changed(recipe, "load_best_model_at_end", True)
    check_same_run(best, rows, output)
    with pytest.raises(ConfigError, match=r"cannot continue with validation_data='more.jsonl'"):
        check_same_run(changed(best, "validation_data", "more.jsonl"), rows, output)


@pytest.mark.parametrize("is_written", [True, False])
def test_no_step_is_left(tmp_path, is_written):
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_text('{"global_step": 10}')
    if is_written:
        (tmp_path / "model.safetensors").touch()
        with pytest.raises(ConfigError, match="is complete: 10 of 10 steps; next: more --num"):
            begin_at(tmp_path, 10)
    else:
        begin_at(tmp_path, 10)
    begin_at(tmp_path, 11)


def test_a_run_without_a_recipe_of_its_own(recipe, output):
    (output / "recipe.yaml").unlink()
    with pytest.raises(ConfigError) as caught:
        train(None, output, resume=True, device="cpu")
    assert str(caught.value) == (
        f"{str(output)!r} has no recipe.yaml; next: --recipe FILE, or the flags it was trained with"
    )
    with pytest.raises(ConfigError, match="the run has no recipe; next: a recipe, or resume=True"):
        train(None, output, device="cpu")


@pytest.mark.parametrize(
    ("files", "hint"),
    [([], "leave --resume out"), (["recipe.yaml"], "--overwrite instead of --resume")],
)
def test_a_run_without_a_checkpoint(tmp_path, files, hint):
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(OutputError, match=f"has no checkpoint to resume from; next: {hint}$"):
        train(None, tmp_path, resume=True, device="cpu")


def test_a_default_may_be_spelled_out(recipe, output, capfd):
    rows = [Row("1", text, label, "en") for text, label in TEXTS.items()]
    same = changed(changed(recipe, "seed", 0), "max_text_tokens", 512)
    same = changed(changed(same, "trust_remote_code", False), "encoder_revision", "main")
    check_same_run(same, rows, output)
    assert capfd.readouterr().err == ""


def test_a_refused_change_leaves_the_run_as_it_was(recipe, output):
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    other = changed(changed(recipe, "learning_rate", 1e-3), "normalize", "rms")
    with pytest.raises(ConfigError, match=r"normalize='rms' \(was None\), learning_rate=0.001"):
        train(other, output, resume=True, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_a_run_that_is_older_than_the_defaults_keeps_its_settings(recipe, output, capfd):
    # Such a recipe has what the user set, and nothing else.
    old = dataclasses.replace(
        recipe,
        bridge={"fusion": "global-softmax"},
        training={"num_train_epochs": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2},
    )
    old.write(output)
    train(None, output, resume=True, device="cpu")
    assert "resuming with" not in capfd.readouterr().err
    with pytest.raises(ConfigError, match=r"start='last' \(was 'uniform'\)"):
        train(changed(recipe, "start", "last"), output, resume=True, device="cpu")


def test_more_epochs_are_trained_and_recorded(recipe, output, capfd):
    more = changed(changed(recipe, "num_train_epochs", 3), "logging_steps", 1)
    bridge = train(more, output, resume=True, device="cpu")
    assert "resuming with num_train_epochs=3 (was 2), logging_steps=1 (was 10)\n" in (
        capfd.readouterr().err
    )
    recorded = read(output / "recipe.yaml").training
    assert (recorded["num_train_epochs"], recorded["logging_steps"]) == (3, 1)
    log = json.loads((output / LOG).read_text())
    assert [line["step"] for line in log if "loss" in line] == [3, 4, 5, 6]
    assert not bridge.training
    # The run is complete now, and is not trained again.
    with pytest.raises(ConfigError) as caught:
        train(more, output, resume=True, device="cpu")
    assert str(caught.value) == (
        f"the run in {str(output)!r} is complete: 6 of 6 steps; next: more --num-train-epochs or "
        "--max-steps"
    )
    with pytest.raises(ConfigError, match=r"is at step 6, beyond its new end at step 4; next: mor"):
        train(recipe, output, resume=True, device="cpu")
    assert read(output / "recipe.yaml").training == recorded
    assert (output / "model.safetensors").is_file()


def test_a_run_without_its_last_files_gets_them(recipe, output):
    train(recipe, output, resume=True, device="cpu")
    weights = (output / "model.safetensors").read_bytes()
    # Broken off between the last checkpoint and the end.
    (output / "model.safetensors").unlink()
    train(recipe, output, resume=True, device="cpu")
    assert (output / "model.safetensors").read_bytes() == weights


def test_results_of_a_shorter_run_do_not_stay(recipe, output):
    (output / "results").mkdir()
    (output / "results" / "names-score.json").write_text("{}")
    train(recipe, output, resume=True, device="cpu")
    assert list((output / "results").iterdir()) == []


def test_rows_may_move_but_not_change(recipe, output, tmp_path, capfd):
    moved = changed(recipe, "data", write_rows(tmp_path / "moved.jsonl"))
    other = {**TEXTS, "teams": "Sports"}
    for texts in (other, dict(reversed(TEXTS.items())), {**TEXTS, "one": "Sports"}):
        with pytest.raises(ConfigError) as caught:
            train(
                changed(recipe, "data", write_rows(tmp_path / "other.jsonl", texts)),
                output, resume=True, device="cpu",
            )  # fmt: skip
        assert str(caught.value) == (
            f"the run in {str(output)!r} began with other rows; allowed: the same rows in the same "
            "order; next: restore the data, or train in another folder"
        )
    train(moved, output, resume=True, device="cpu")
    assert f"resuming with data={moved.data!r} (was {recipe.data!r})" in capfd.readouterr().err


def test_runs_of_earlier_versions_are_compared_by_their_recipe(recipe, output, tmp_path, capfd):
    file = output / "checkpoint-2" / "trainer_state.json"
    state = json.loads(file.read_text())
    state["log_history"] = [line for line in state["log_history"] if "rows_sha256" not in line]
    file.write_text(json.dumps(state))
    moved = changed(recipe, "data", write_rows(tmp_path / "moved.jsonl"))
    with pytest.raises(ConfigError, match="cannot continue with data="):
        train(moved, output, resume=True, device="cpu")
    (output / "recipe.yaml").unlink()
    train(recipe, output, resume=True, device="cpu")
    said = f"{str(output)!r} has no recipe.yaml: the run's settings are not compared\n"
    assert said in capfd.readouterr().err


def test_the_hash_is_of_texts_and_targets_in_order():
    rows = [Row(str(n), text, target, "en") for n, (text, target) in enumerate(TEXTS.items())]
    assert rows_sha256(rows) == rows_sha256([dataclasses.replace(row, id="x") for row in rows])
    assert rows_sha256(rows) != rows_sha256(rows[::-1])
    shifted = [Row("1", "a", "bc", "en")], [Row("1", "ab", "c", "en")]
    assert rows_sha256(shifted[0]) != rows_sha256(shifted[1])
    assert RowsRecord(rows, StepSize(8)).entry == {
        "step": 0, "rows": 4, "rows_sha256": rows_sha256(rows), "rows_per_step": 8,
    }  # fmt: skip


def test_another_fusion_in_the_checkpoint_itself(recipe, output):
    (output / "recipe.yaml").unlink()
    with pytest.raises(CheckpointError, match="has the fusion 'global-softmax'; allowed: last"):
        train(changed(recipe, "fusion", "last"), output, resume=True, device="cpu")


def test_other_processes_do_the_same_steps(recipe, output, capfd):
    training = {**recipe.training, "gradient_accumulation_steps": 1}
    assert with_same_steps(recipe, output, 1) == recipe
    both = with_same_steps(recipe, output, 2)
    assert both.training == {**training, "per_device_train_batch_size": 1}
    assert capfd.readouterr().err == (
        "resuming in 2 processes, with the run's steps of 2 rows: per_device_train_batch_size=1, "
        "gradient_accumulation_steps=1\n"
    )
    rows = [Row(str(n), text, target, "en") for n, (text, target) in enumerate(TEXTS.items())]
    check_same_run(both, rows, output, processes=2)
    assert capfd.readouterr().err == ""
    with pytest.raises(ConfigError, match=r"cannot continue with per_device_train_batch_size=1 "):
        check_same_run(both, rows, output, processes=1)
    with pytest.raises(ConfigError) as caught:
        with_same_steps(recipe, output, 3)
    assert str(caught.value) == (
        "3 processes cannot share a step of 2 rows, which the run began with; allowed: 1, 2 "
        "processes; next: resume in so many, or train in another folder"
    )
    # Batches of the user's own are compared, and not replaced.
    other = changed(recipe, "per_device_train_batch_size", 3)
    assert with_same_steps(other, output, 2) == other


def test_a_run_without_its_step_size_was_that_of_its_checkpoints_processes(recipe, output):
    state = output / "checkpoint-2" / "trainer_state.json"
    state.write_text(state.read_text().replace("rows_per_step", "unknown"))
    for rank in (0, 1):
        (output / "checkpoint-2" / f"rng_state_{rank}.pth").touch()
    alone = with_same_steps(recipe, output, 1)
    assert [alone.training[name] for name in SETTINGS] == [2, 2]
    assert with_same_steps(recipe, output, 2) == recipe
