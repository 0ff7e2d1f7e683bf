import csv
import dataclasses
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch
from safetensors.torch import load_file

import two_processes
from layerbridge.cli.app import main
from layerbridge.errors import (
    BackboneError,
    ConfigError,
    DataError,
    OutputError,
    TrainingError,
)
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.training import examples, run
from layerbridge.training.interrupt import Interrupted
from layerbridge.training.recipe import Recipe, read
from layerbridge.training.resume import RowsRecord
from layerbridge.training.run import new_bridge, train, training_arguments
from layerbridge.training.run_data import RunData, read_data

EXAMPLES = {
    "the market rose": "Business",
    "rates fell": "Business",
    "the players won": "Sports",
    "goals were scored": "Sports",
    "a star shines": "Science",
    "kings vote": "Political",
    "films are made": "Entertainment",
    "the crowd sang": "Entertainment",
}
OPTIONS = ["Business", "Entertainment", "Political", "Sports", "Science"]


def write_jsonl(path, examples=EXAMPLES):
    lines = (json.dumps({"text": text, "label": label}) + "\n" for text, label in examples.items())
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def make_recipe(folder, tmp_path_factory):
    """A recipe on the examples; keywords change it."""
    data = write_jsonl(tmp_path_factory.mktemp("data") / "rows.jsonl")

    def make(bridge=None, training=None, **changes):
        recipe = Recipe(
            encoder=str(folder("xlm-r")),
            language_model=str(folder("llama")),
            data=data,
            target="label",
            options=OPTIONS,
            bridge={"fusion": "global-softmax", "projection_start": "scaled", **(bridge or {})},
            backbones={"dtype": "float32"},
            training={"max_steps": 4, "learning_rate": 1e-3, **(training or {})},
        )
        return dataclasses.replace(recipe, **changes)

    return make


@pytest.fixture(scope="module")
def learned(make_recipe, tmp_path_factory):
    """A run long enough to learn the eight rows by heart."""
    output = tmp_path_factory.mktemp("learned") / "run"
    settings = {"max_steps": 80, "learning_rate": 1e-2, "logging_steps": 8}
    recipe = make_recipe(bridge={"instruction": ""}, training={**settings, "save_strategy": "no"})
    return train(recipe, output, device="cpu"), output


def test_the_bridge_learns(learned):
    bridge, output = learned
    answers = bridge.classify(list(EXAMPLES))
    right = [a.choice == label for a, label in zip(answers, EXAMPLES.values(), strict=True)]
    assert sum(right) / len(right) > 0.9
    losses = [
        line["loss"]
        for line in json.loads((output / "training.json").read_text())
        if "loss" in line
    ]
    assert len(losses) == 10
    assert losses[-1] < 0.6 * losses[0]
    assert not bridge.training


def test_what_a_run_leaves_behind(learned):
    bridge, output = learned
    assert sorted(path.name for path in output.iterdir()) == [
        "README.md",
        "config.json",
        "layer-weights.jsonl",
        "model.safetensors",
        "recipe.yaml",
        "training.json",
    ]
    loaded = LayerBridge.from_pretrained(output, dtype="float32")
    for name, tensor in bridge.trained_state_dict().items():
        assert torch.equal(loaded.trained_state_dict()[name], tensor)
    assert loaded.config.options == OPTIONS
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "8 rows, English only" in card
    assert "| training | 80 steps, " in card
    assert "| `learning_rate` | `0.01` |" in card


def test_the_recipe_in_the_run_gives_the_run_again(make_recipe, tmp_path):
    recipe = make_recipe(
        bridge={"fusion": "token-softmax", "fusion_options": {"feedforward": 32}},
        template="News: {text} Category: ",
        training={"learning_rate": 1e-2, "seed": 3},
    )
    first = train(recipe, tmp_path / "first", device="cpu")
    torch.manual_seed(77)
    again = read(tmp_path / "first" / "recipe.yaml")
    # What it leaves open is in the run's, so that other defaults do not change it.
    assert {**again.bridge, **recipe.bridge} == again.bridge
    assert {**again.training, **recipe.training} == again.training
    assert dataclasses.replace(again, bridge=recipe.bridge, training=recipe.training) == (
        dataclasses.replace(recipe, options=again.options)
    )
    second = train(again, tmp_path / "second", device="cpu")
    for name, tensor in first.trained_state_dict().items():
        assert torch.equal(tensor, second.trained_state_dict()[name]), name
    assert first.config.template == "News: {text} Category: "
    other = train(
        dataclasses.replace(again, training={**again.training, "seed": 4}),
        tmp_path / "other",
        device="cpu",
    )
    moved = [
        not torch.equal(tensor, other.trained_state_dict()[name])
        for name, tensor in first.trained_state_dict().items()
    ]
    assert all(moved)


def test_a_run_that_was_broken_off_is_finished(make_recipe, tmp_path, monkeypatch):
    training = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2}
    recipe = make_recipe(training=training)

    def interrupted(self, args, state, control, **_):
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run.ProgressCallback, "on_step_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run", device="cpu")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint-4",
        "layer-weights.jsonl",
        "recipe.yaml",
    ]
    with pytest.raises(OutputError, match="is not empty; next: --overwrite"):
        train(recipe, tmp_path / "run", device="cpu")
    train(recipe, tmp_path / "run", resume=True, device="cpu")
    assert (tmp_path / "run" / "model.safetensors").is_file()

    # A new run in the same folder must not be taken for a part of the old one.
    train(make_recipe(training={"max_steps": 1}), tmp_path / "run", overwrite=True, device="cpu")
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-1"]


def test_a_resumed_run_does_not_fit_its_start_again(make_recipe, tmp_path, monkeypatch):
    saving = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}
    recipe = make_recipe(bridge={"projection_start": "aligned"}, training=saving)
    straight = tensors(train(recipe, tmp_path / "run", device="cpu"))
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    monkeypatch.setattr("layerbridge.models.bridge.align", None)
    resumed = tensors(train(recipe, tmp_path / "run", resume=True, device="cpu"))
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name


def test_rows_on_the_disk_train_the_same_bridge(make_recipe, tmp_path, monkeypatch, capfd):
    """To the digit, also if the run is broken off, as long as all tokens are counted."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("layerbridge.tasks.stored_rows.FEW", 0)
    many = {f"{text} {n}": label for n in range(6) for text, label in EXAMPLES.items()}
    data = write_jsonl(tmp_path / "rows.jsonl", many)
    saving = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}
    cases = {
        "rows": {"eval_steps": 2},
        "tokens": {"eval_steps": 2, "tokens_per_batch": 64},
        "cached": {"eval_strategy": "no"},
        "sampled": {"eval_strategy": "no", "dataloader_num_workers": 1},
    }
    for name, settings in cases.items():
        recipe = make_recipe(
            bridge={"projection_start": "aligned"},
            training={**saving, **settings},
            data=data,
            options=None,
            cache_states=name == "cached",
        )
        before = []
        if name != "sampled":
            before = [tensors(train(recipe, tmp_path / name, device="cpu"))]
        with monkeypatch.context() as patched:
            patched.setattr("layerbridge.tasks.records.LARGE", 0)
            if name == "sampled":
                patched.setattr("layerbridge.training.collation.MOST_CHARACTERS", 0)
                patched.setattr("layerbridge.training.collation.SAMPLED", 5)
            folder = tmp_path / f"{name}-on-disk"
            capfd.readouterr()
            before.append(tensors(train(recipe, folder, device="cpu")))
            assert "rows are read from the disk" in capfd.readouterr().err
            shutil.rmtree(folder / "checkpoint-4")
            resumed = tensors(train(recipe, folder, resume=True, device="cpu"))
        for other in before:
            for key, tensor in resumed.items():
                assert torch.equal(tensor, other[key]), (name, key)
        log = json.loads((folder / "training.json").read_text())
        assert log[0]["training_rows"] + log[0].get("validation_rows", 0) in (len(many), 44)
        assert log[0].get("training_rows_sampled") == (5 if name == "sampled" else None)


def test_resume_without_a_checkpoint(make_recipe, tmp_path):
    with pytest.raises(OutputError, match="has no checkpoint to resume from"):
        train(make_recipe(), tmp_path / "run", resume=True, device="cpu")
    assert not (tmp_path / "run").exists()


def test_progress_ends_with_the_last_loss(make_recipe, tmp_path, capfd):
    train(make_recipe(training={"logging_steps": 1}), tmp_path / "run", device="cpu")
    out, err = capfd.readouterr()
    assert out == ""
    few, start, end, note = err.splitlines()
    assert few == "no rows are held out for validation: 8 are too few"
    assert note.startswith("note: the bridge did not take off: the training loss has not fallen; ")
    assert start == f"8 English rows of {make_recipe().data}, 4 steps; loading the models …"
    log = json.loads((tmp_path / "run" / "training.json").read_text())
    last = [line["loss"] for line in log if "loss" in line][-1]
    assert end == f"training global-softmax: 4/4  loss {last:.3f}"


def test_validation_rows_are_watched(make_recipe, tmp_path):
    more = write_jsonl(tmp_path / "more.jsonl", {"the teams": "Sports"})
    recipe = make_recipe(validation_data=more, training={"eval_strategy": "steps", "eval_steps": 2})
    train(recipe, tmp_path / "run", device="cpu")
    log = json.loads((tmp_path / "run" / "training.json").read_text())
    assert [line["step"] for line in log if "eval_loss" in line] == [2, 4]


def test_a_run_keeps_examples_and_how_likely_any_option_is(make_recipe, tmp_path):
    """Of its validation rows; a run without any leaves nothing of the one before."""
    more = {"the teams": "Sports", "banks fell": "Business", "bonds fell": "Business"}
    recipe = make_recipe(validation_data=write_jsonl(tmp_path / "more.jsonl", more))
    bridge = train(recipe, tmp_path / "run", device="cpu")
    kept = [(each.text, each.target) for each in examples.read(tmp_path / "run")]
    # Each label in turn.
    assert kept == [("the teams", "Sports"), *list(more.items())[1:]]
    values = sorted(each.any_option for each in bridge.classify(list(more)))
    saved = LayerBridge.from_pretrained(tmp_path / "run", dtype="float32").config
    assert saved.usual_any_option == pytest.approx(values[1], rel=1e-4)
    train(make_recipe(), tmp_path / "run", overwrite=True, device="cpu")
    if not read_data(make_recipe()).validation:
        assert examples.read(tmp_path / "run") == []
        assert LayerBridge.from_pretrained(tmp_path / "run").config.usual_any_option is None


def test_texts_that_are_cut_or_empty_are_counted(make_recipe, tmp_path, capsys):
    lines = [
        {"text": text, "label": "Sports"} for text in ("a", "the teams " * 20, "the " * 99, "")
    ]
    lines.append({"text": None, "label": "Science"})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "more.jsonl").write_text("\n".join(map(json.dumps, lines[1:])))
    recipe = make_recipe(
        bridge={"max_text_tokens": 30},
        training={"eval_strategy": "no", "max_steps": 1},
        data=str(tmp_path / "rows.jsonl"),
        validation_data=str(tmp_path / "more.jsonl"),
        template="News: {text} Category: ",
        cache_states=True,
    )
    bridge = train(recipe, tmp_path / "run", device="cpu")
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith(("texts", "empty"))] == [
        "texts cut at 30 tokens: 2 of 5 in training, 2 of 4 in validation",
        "empty texts: 2 of 5 in training, 2 of 4 in validation",
    ]
    log = json.loads((tmp_path / "run" / "training.json").read_text())
    assert log[0] == {
        "training_rows": 5,
        "training_texts_cut": 2,
        "training_texts_empty": 2,
        "validation_rows": 4,
        "validation_texts_cut": 2,
        "validation_texts_empty": 2,
    }
    assert "train_loss" in log[-1]
    assert (bridge.encoder.template_end, bridge.config.max_text_tokens) == (" Category: ", 30)


@pytest.mark.parametrize("positions", [None, 40])
@pytest.mark.parametrize("loaded", [False, True])
def test_a_limit_that_is_lowered_is_said_once(make_recipe, tmp_path, capsys, positions, loaded):
    recipe = make_recipe(bridge={"max_text_tokens": 4096})
    if positions is not None:
        language_model = shutil.copytree(recipe.language_model, tmp_path / "lm")
        config = json.loads((language_model / "config.json").read_text())
        config["max_position_embeddings"] = positions
        (language_model / "config.json").write_text(json.dumps(config))
        recipe = dataclasses.replace(recipe, language_model=str(language_model))
    backbones = None
    if loaded:
        options = LoadOptions("float32")
        encoder = Encoder.load(resolve(recipe.encoder), options)
        backbones = encoder, LanguageModel.load(resolve(recipe.language_model), options)
    bridge = new_bridge(recipe, read_data(recipe), "cpu", backbones=backbones)
    limit = bridge.config.max_text_tokens
    (said,) = [line for line in capsys.readouterr().err.splitlines() if str(limit) in line]
    if positions is None:
        assert said == f"max_text_tokens is lowered from 4096 to {limit}, the encoder's limit"
    else:
        assert limit < bridge.encoder.most_tokens < 4096
        assert said == (
            f"texts are cut at {limit} encoder tokens instead of {bridge.encoder.most_tokens}: the "
            "language model has 40 positions, for prompt and answer"
        )


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        ({"num_train_epochs": 2}, [2, 4]),
        ({"max_steps": 10}, [2, 4, 6, 8, 10]),
        ({"max_steps": 6}, [2, 4, 6]),
        # The last step is no multiple.
        ({"eval_steps": 2, "max_steps": 3}, [2, 3]),
        ({"eval_strategy": "epoch", "max_steps": 3}, [2, 3]),
        ({"eval_strategy": "no"}, []),
    ],
)
def test_validation_rows_are_watched_without_a_flag(make_recipe, tmp_path, capfd, training, steps):
    more = write_jsonl(tmp_path / "more.jsonl", {"the teams": "Sports"})
    recipe = make_recipe(bridge={"fusion": "last"}, validation_data=more)
    training = {"learning_rate": 1e-3, "per_device_train_batch_size": 4, **training}
    recipe = dataclasses.replace(recipe, training=training)
    train(recipe, tmp_path / "run", device="cpu")
    log = json.loads((tmp_path / "run" / "training.json").read_text())
    losses = {line["step"]: line["eval_loss"] for line in log if "eval_loss" in line}
    assert list(losses) == steps
    printed = capfd.readouterr().err.splitlines()
    said = [line for line in printed if line.startswith("English validation")]
    assert len(said) == bool(steps)
    if steps:
        best = min(losses.values())
        assert f"1 rows: accuracy {said[0].split()[5]} loss {best:.3f}; for comp" in said[0]


def test_the_state_cache_changes_nothing(make_recipe, tmp_path):
    from layerbridge.models.state_cache import StateCache
    from layerbridge.training.run import new_bridge, train_bridge

    recipe = make_recipe(bridge={"fusion": "token-softmax", "fusion_options": {"dropout": 0.0}})
    ends = []
    for cache in (None, StateCache()):
        torch.manual_seed(0)
        data = read_data(recipe)
        bridge = new_bridge(recipe, data)
        bridge.encoder.cache = cache
        output = tmp_path / str(cache is None)
        arguments = training_arguments({**recipe.training, "use_cpu": True}, output)
        train_bridge(bridge, recipe, data, arguments, output)
        ends.append(bridge.trained_state_dict())
    assert len(cache) >= len(EXAMPLES)
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, rtol=0, atol=1e-5)


# States that are kept on the disk


def tensors(bridge):
    return {name: tensor.clone() for name, tensor in bridge.trained_state_dict().items()}


@pytest.mark.parametrize(
    ("fusion", "bf16"),
    [("last", True), ("uniform", False), ("global-softmax", True), ("token-softmax", False)],
)
def test_cached_states_give_the_same_bits(make_recipe, tmp_path, monkeypatch, fusion, bf16):
    # All rows in one batch: a text's last bits are of the batch that the encoder read it in.
    # Accelerate builds the output anew from a dict, as transformers' ModelOutput allows.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", bf16)
    recipe = make_recipe(
        bridge={"fusion": fusion},
        training={"max_steps": 5, "per_device_train_batch_size": 8, "bf16": bf16},
    )
    plain = tensors(train(recipe, tmp_path / "plain", device="cpu"))
    cached = tensors(
        train(dataclasses.replace(recipe, cache_states=True), tmp_path / "cached", device="cpu")
    )
    for name, tensor in plain.items():
        assert torch.equal(tensor, cached[name]), name


@pytest.mark.parametrize(("fusion", "encoder"), [("last", "mt5"), ("token-softmax", "xlm-r")])
def test_cached_states_give_the_same_run(make_recipe, folder, tmp_path, fusion, encoder):
    training = {"max_steps": 9, "tokens_per_batch": 60}
    recipe = make_recipe(encoder=str(folder(encoder)), bridge={"fusion": fusion}, training=training)
    plain = train(recipe, tmp_path / "plain", device="cpu")
    recipe = dataclasses.replace(recipe, cache_states=True)
    cached = train(recipe, tmp_path / "cached", device="cpu")
    assert cached.encoder.cache is None
    for name, tensor in plain.trained_state_dict().items():
        other = cached.trained_state_dict()[name]
        torch.testing.assert_close(other, tensor, rtol=0, atol=1e-5)
    assert read(tmp_path / "cached" / "recipe.yaml").cache_states
    left = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("plain", "cached")]
    assert left[0] == left[1]


def test_a_run_with_cached_states_is_resumed(make_recipe, tmp_path, monkeypatch):
    training = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2}
    training |= {"per_device_train_batch_size": 3}
    recipe = make_recipe(bridge={"fusion": "token-softmax"}, training=training, cache_states=True)
    straight = tensors(train(recipe, tmp_path / "straight", device="cpu"))

    def interrupted(self, args, state, control, **_):
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run.ProgressCallback, "on_step_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run", device="cpu")
    left = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert left == ["checkpoint-4", "layer-weights.jsonl", "recipe.yaml"]
    resumed = train(recipe, tmp_path / "run", resume=True, device="cpu")
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed.trained_state_dict()[name]), name


def test_the_encoder_reads_each_text_once(make_recipe, tmp_path, monkeypatch, capfd):
    from layerbridge.models.encoder import Encoder

    rows = []
    inner = Encoder.forward

    def spy(self, input_ids, attention_mask, **asked):
        rows.append(len(input_ids))
        return inner(self, input_ids, attention_mask, **asked)

    monkeypatch.setattr(Encoder, "forward", spy)
    # Validation rows are read ahead as well: one more, and two that are known.
    more = {**dict(list(EXAMPLES.items())[:2]), "the teams": "Sports"}
    recipe = make_recipe(
        bridge={"projection_start": "random"},
        validation_data=write_jsonl(tmp_path / "more.jsonl", more),
        training={"eval_strategy": "steps", "eval_steps": 2},
        cache_states=True,
    )
    train(recipe, tmp_path / "run", device="cpu")
    assert sum(rows) == 9
    read_, size, message, *_ = capfd.readouterr().err.splitlines()
    assert read_.startswith("8 English rows of ")
    assert size.startswith("states of 9 texts: ")
    assert size.endswith(f" kB in {tmp_path / 'run'}")
    assert message == "encoding texts: 9/9"


def test_no_room_for_cached_states(make_recipe, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"^the states of 8 texts take .* has 10 bytes free"):
        train(make_recipe(cache_states=True), tmp_path / "run", device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_cached_states_and_loader_workers(make_recipe, tmp_path):
    recipe = make_recipe(cache_states=True, training={"dataloader_num_workers": 2})
    # Before the backbones are looked for.
    recipe = dataclasses.replace(recipe, encoder="/absent/model")
    with pytest.raises(
        TrainingError, match=r"^dataloader_num_workers=2 cannot be combined with cached"
    ):
        train(recipe, tmp_path / "run", device="cpu")
    assert list(tmp_path.iterdir()) == []


# Rows


def test_csv_and_parquet_hold_the_same_rows_as_jsonl(make_recipe, tmp_path):
    import pyarrow
    import pyarrow.parquet

    recipe = make_recipe()
    expected = [(row.text, row.target) for row in read_data(recipe).train]
    assert expected == list(EXAMPLES.items())
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *EXAMPLES.items()])
    table = pyarrow.table({"text": list(EXAMPLES), "label": list(EXAMPLES.values())})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    for name in ("rows.csv", "rows.parquet"):
        other = dataclasses.replace(recipe, data=str(tmp_path / name))
        assert [(row.text, row.target) for row in read_data(other).train] == expected


def test_a_task_brings_its_options_and_template(make_recipe):
    recipe = make_recipe(
        task="names", data=None, target=None, options=None, task_options={"train_per_kind": 5}
    )
    data = read_data(recipe)
    assert (len(data.train), data.name, data.template) == (30, "names", "{name}")
    assert data.options == ["country", "language", "currency", "script", "unit", "time zone"]
    assert len(data.validation) == 90
    assert {row.language for row in data.train + data.validation} == {"en"}


def test_a_label_outside_the_options(make_recipe, tmp_path):
    recipe = make_recipe(options=OPTIONS[:4])
    with pytest.raises(DataError) as caught:
        train(recipe, tmp_path / "run", device="cpu")
    assert str(caught.value) == (
        f"{recipe.data}, line 5 has the label 'Science'; allowed: Business, Entertainment, "
        "Political, Sports"
    )
    assert not (tmp_path / "run").exists()


# Arguments


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"lerning_rate": 1},
            "unknown training argument: 'lerning_rate'; allowed: learning_rate, logging_strategy, "
            "fusion_learning_rate_scale",
        ),
        (
            {"learning_rate": "fast"},
            "learning_rate='fast' is not valid; allowed: a number above 0",
        ),
        ({"bf16": "maybe"}, "bf16='maybe' is not valid; allowed: true or false"),
        (
            {"lr_scheduler_type": "wavy"},
            "lr_scheduler_type='wavy' is not valid; allowed: linear, cosine, cosine_with_restarts, "
            "polynomial, constant, constant_with_warmup, inverse_sqrt, reduce_lr_on_plateau, "
            "cosine_with_min_lr, cosine_warmup_with_min_lr, warmup_stable_decay, greedy",
        ),
        (
            {"eval_strategy": "sometimes"},
            "eval_strategy='sometimes' is not valid; allowed: no, steps, epoch",
        ),
        (
            {"eval_on_start": True},
            "eval_on_start=True has no effect without --eval-strategy steps or epoch; next: set "
            "that too, or leave it out",
        ),
        (
            {"gradient_checkpointing_kwargs": {"use_reentrant": True}},
            "gradient_checkpointing_kwargs is not supported: each of the language model's layers "
            "is checkpointed, in one way; next: --gradient-checkpointing true alone",
        ),
        (
            {"resume_from_checkpoint": "runs/mine"},
            "resume_from_checkpoint is not supported: a run continues from the last checkpoint in "
            "its folder; next: --resume",
        ),
        (
            {"output_dir": "elsewhere"},
            "output_dir is not a training argument here; next: --output FOLDER",
        ),
        (
            {"fusion_learning_rate_scale": -1},
            "fusion_learning_rate_scale=-1 is not valid; allowed: 0 (the fusion stays as it "
            "starts) or more",
        ),
    ],
)
def test_arguments_that_do_not_fit(tmp_path, settings, message):
    with pytest.raises((ConfigError, TrainingError)) as caught:
        training_arguments(settings, tmp_path)
    assert str(caught.value) == message


def test_arguments_reach_the_trainer(tmp_path):
    arguments = training_arguments({"seed": 5, "adam_beta1": 0.9}, tmp_path)
    assert (arguments.seed, arguments.adam_beta1, arguments.adam_beta2) == (5, 0.9, 0.999)
    assert arguments.output_dir == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


# What is wrong is told before anything is written


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"bridge": {"fusion": "frist"}}, ConfigError, r"^unknown fusion 'frist'; allowed: last, "),
        ({"bridge": {"start": "first"}}, ConfigError, "^unknown start 'first'; allowed: uniform, "),
        ({"encoder": "/absent/model"}, BackboneError, "^the folder '/absent/model' does not exist"),
        ({"language_model": "nobody/nothing"}, BackboneError, "is not on this machine"),
        ({"backbones": {"dtype": "int4"}}, ConfigError, "^unknown dtype 'int4'; allowed: auto, "),
        (
            {"training": {"eval_strategy": "epoch"}},
            ConfigError,
            r"^eval_strategy='epoch' needs validation rows; next: --validation-data FILE, or "
            r"leave it out$",
        ),
        (
            {"training": {"report_to": "tensorbored"}},
            ConfigError,
            "^invalid training arguments: .*tensorbored",
        ),
        ({"task": "names"}, ConfigError, "^the run has both a task and data"),
        ({"text": "body"}, DataError, "has no column 'body'; allowed: text, label$"),
    ],
)
def test_nothing_is_written_when_it_cannot_start(make_recipe, tmp_path, changes, error, message):
    with pytest.raises(error, match=message) as caught:
        train(make_recipe(**changes), tmp_path / "new" / "run", device="cpu")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_start_leaves_a_folder_in_use_as_it_was(make_recipe, learned, tmp_path):
    shutil.copytree(learned[1], tmp_path / "run")
    (tmp_path / "run" / "checkpoint-9").mkdir()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir()}
    weights = load_file(tmp_path / "run" / "model.safetensors")
    recipe = make_recipe(language_model="nobody/nothing")
    with pytest.raises(BackboneError):
        train(recipe, tmp_path / "run", overwrite=True, device="cpu")
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir()} == before
    assert load_file(tmp_path / "run" / "model.safetensors").keys() == weights.keys()


def test_device_cpu_holds_for_the_trainer_too(make_recipe, tmp_path, monkeypatch):
    seen = {}

    def spy(bridge, recipe, data, arguments, folder, **_):
        seen.update(cpu=arguments.use_cpu, data=data)

    monkeypatch.setattr(run, "train_bridge", spy)
    train(make_recipe(), tmp_path / "run", device="cpu")
    assert seen["cpu"]
    assert isinstance(seen["data"], RunData)


def test_a_recipe_may_be_a_file(make_recipe, tmp_path):
    make_recipe(training={"max_steps": 1}).write(tmp_path)
    bridge = train(tmp_path / "recipe.yaml", tmp_path / "run", device="cpu")
    assert bridge.config.fusion == "global-softmax"


# Two processes


def test_two_processes_train_one_bridge_and_one_of_them_writes(make_recipe, tmp_path, monkeypatch):
    texts = {f"the {'market ' * (n % 5)}{n}": OPTIONS[n % 5] for n in range(12)}
    training = {"max_steps": -1, "num_train_epochs": 2, "per_device_train_batch_size": 2}
    # Three steps an epoch; the fourth is in the middle of the second.
    training |= {"save_strategy": "steps", "save_steps": 4, "logging_steps": 1, "warmup_steps": 0}
    recipe = make_recipe(
        data=write_jsonl(tmp_path / "rows.jsonl", texts),
        validation_data=write_jsonl(tmp_path / "more.jsonl", {"the teams": "Sports"}),
        training=training,
    )
    recipe.write(tmp_path)
    runs = tmp_path / "runs"
    (runs / "old" / "checkpoint-9").mkdir(parents=True)

    def interrupted(self, args, state, control, **_):
        # One process gets the signal; both end after the same step.
        if state.global_step == 5 and os.environ["RANK"] == "1":
            signal.raise_signal(signal.SIGTERM)

    def work():
        words = ["layerbridge", "train", "--recipe", str(tmp_path / "recipe.yaml")]
        words += ["-o", str(runs / "old"), "--overwrite", "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 0
        with monkeypatch.context() as patched:
            patched.setattr(RowsRecord, "on_step_end", interrupted)
            with pytest.raises(Interrupted) as stopped:
                train(recipe, runs / "broken", device="cpu")
        assert str(stopped.value) == (
            f"interrupted at step 5 of 6, saved in {runs / 'broken' / 'checkpoint-5'}; next: "
            "torchrun --nproc-per-node 2 -m layerbridge train --resume -o "
            f"{runs / 'broken'}"
        )
        train(None, runs / "broken", resume=True, device="cpu")

    first, second = two_processes.run(work, runs)
    # Each process has its own random numbers to keep.
    assert {Path(path).name for path in second} <= {
        "checkpoint-4", "checkpoint-5", "checkpoint-6",
    }  # fmt: skip
    assert {"/old/recipe.yaml", "/old/training.json", "/old/layer-weights.jsonl"} <= first
    assert "/old/checkpoint-9" in first
    assert sorted(path.name for path in (runs / "old").iterdir()) == [
        "README.md", "checkpoint-6", "config.json", "examples.json", "layer-weights.jsonl",
        "model.safetensors", "recipe.yaml", "training.json",
    ]  # fmt: skip
    assert (tmp_path / "out-0").read_text() == f"{runs / 'old'}\n"
    assert (tmp_path / "out-1").read_text() == (tmp_path / "err-1").read_text() == ""
    whole, resumed = (load_file(runs / name / "model.safetensors") for name in ("old", "broken"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    logs = [json.loads((runs / name / "training.json").read_text()) for name in ("old", "broken")]
    losses = [[line["loss"] for line in log if "loss" in line] for log in logs]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6
