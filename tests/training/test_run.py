import csv
import dataclasses
import json
import shutil

import jaxtyping
import pytest
import torch
from safetensors.torch import load_file

from layerbridge.errors import (
    BackboneError,
    CheckpointError,
    ConfigError,
    DataError,
    OutputError,
    TrainingError,
)
from layerbridge.models.bridge import LayerBridge
from layerbridge.training import run
from layerbridge.training.recipe import Recipe, read
from layerbridge.training.run import train, training_arguments
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
    recipe = make_recipe(
        training={**settings, "save_strategy": "no", "fusion_learning_rate_scale": 0.1}
    )
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
    assert again == recipe
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
    recipe = make_recipe(bridge={"fusion": "token-softmax"}, training=training)
    straight = train(recipe, tmp_path / "straight", device="cpu")

    def interrupted(self, args, state, control, **_):
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run._Progress, "on_step_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run", device="cpu")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint-4",
        "layer-weights.jsonl",
        "recipe.yaml",
    ]
    with pytest.raises(OutputError, match="is not empty; next: --overwrite"):
        train(recipe, tmp_path / "run", device="cpu")
    resumed = train(recipe, tmp_path / "run", resume=True, device="cpu")
    for name, tensor in straight.trained_state_dict().items():
        assert torch.equal(tensor, resumed.trained_state_dict()[name]), name
    assert (tmp_path / "run" / "model.safetensors").is_file()

    with pytest.raises(CheckpointError, match="has the fusion 'token-softmax'"):
        train(make_recipe(bridge={"fusion": "last"}), tmp_path / "run", resume=True, device="cpu")
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


def test_resume_without_a_checkpoint(make_recipe, tmp_path):
    with pytest.raises(OutputError, match="has no checkpoint to resume from"):
        train(make_recipe(), tmp_path / "run", resume=True, device="cpu")
    assert not (tmp_path / "run").exists()


def test_progress_ends_with_the_last_loss(make_recipe, tmp_path, capfd):
    train(make_recipe(training={"logging_steps": 1}), tmp_path / "run", device="cpu")
    out, err = capfd.readouterr()
    assert out == ""
    start, end = err.splitlines()
    assert start == f"8 English rows of {make_recipe().data}; loading the models …"
    log = json.loads((tmp_path / "run" / "training.json").read_text())
    last = [line["loss"] for line in log if "loss" in line][-1]
    assert end == f"training global-softmax: 4/4  loss {last:.3f}"


def test_validation_rows_are_watched(make_recipe, tmp_path):
    more = write_jsonl(tmp_path / "more.jsonl", {"the teams": "Sports"})
    recipe = make_recipe(validation_data=more, training={"eval_strategy": "steps", "eval_steps": 2})
    train(recipe, tmp_path / "run", device="cpu")
    log = json.loads((tmp_path / "run" / "training.json").read_text())
    assert [line["step"] for line in log if "eval_loss" in line] == [2, 4]


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


def test_a_limit_above_the_encoders_is_said(make_recipe, tmp_path, capsys):
    recipe = make_recipe(bridge={"max_text_tokens": 4096}, training={"max_steps": 1})
    bridge = train(recipe, tmp_path / "run", device="cpu")
    limit = bridge.config.max_text_tokens
    assert limit < 4096
    assert (
        f"max_text_tokens is lowered from 4096 to {limit}, the encoder's limit"
        in capsys.readouterr().err.splitlines()
    )


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
        assert cache is None or len(cache) >= len(EXAMPLES)
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
        patched.setattr(run._Progress, "on_step_end", interrupted)
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
    _, read_, size, message, _ = ["", *capfd.readouterr().err.splitlines()]
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
        ({"learning_rate": "fast"}, "learning_rate='fast' is not a number"),
        ({"bf16": "maybe"}, "bf16='maybe' must be true or false"),
        (
            {"output_dir": "elsewhere"},
            "output_dir is not a training argument here; next: --output FOLDER",
        ),
        (
            {"fusion_learning_rate_scale": -1},
            "fusion_learning_rate_scale=-1 is negative; allowed: 0 (the fusion stays as it starts) "
            "or more",
        ),
    ],
)
def test_arguments_that_do_not_fit(tmp_path, settings, message):
    with pytest.raises((ConfigError, TrainingError)) as caught:
        training_arguments(settings, tmp_path)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "settings",
    [
        {"lr_scheduler_type": "wavy"},
        {"optim": "adam"},
        {"eval_strategy": "sometimes"},
        {"save_strategy": "sometimes"},
        {"load_best_model_at_end": True},
    ],
)
def test_what_the_trainer_refuses_is_one_line(tmp_path, settings):
    with pytest.raises(ConfigError, match=r"^invalid training arguments: ") as caught:
        training_arguments(settings, tmp_path)
    assert "\n" not in str(caught.value)


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

    def spy(bridge, recipe, data, arguments, folder, *, resume):
        seen.update(cpu=arguments.use_cpu, data=data)

    monkeypatch.setattr(run, "train_bridge", spy)
    train(make_recipe(), tmp_path / "run", device="cpu")
    assert seen["cpu"]
    assert isinstance(seen["data"], RunData)


def test_a_recipe_may_be_a_file(make_recipe, tmp_path):
    make_recipe(training={"max_steps": 1}).write(tmp_path)
    bridge = train(tmp_path / "recipe.yaml", tmp_path / "run", device="cpu")
    assert bridge.config.fusion == "global-softmax"
