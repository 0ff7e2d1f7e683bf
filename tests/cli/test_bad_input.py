"""Whatever a user gets wrong: one line, exit code 2, nothing half-written."""

import json
import os
import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants
from transformers.integrations import is_tensorboard_available

from layerbridge.hub.zoo import store
from layerbridge.models.bridge import LayerBridge

Usage = namedtuple("Usage", "total used free")


def one_line(result):
    """The one line that was said, without ``error: ``."""
    assert result.code == 2
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.fixture
def refused(command, train_flags, tmp_path):
    """What ``train`` says when it writes nothing; later flags win over earlier ones."""

    def run(*words):
        message = one_line(command("train", *train_flags, *words, "-o", tmp_path / "new" / "run"))
        assert not (tmp_path / "new").exists()
        return message

    return run


@pytest.fixture
def data(tmp_path):
    def write(text, name="rows.jsonl"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


# Names


def test_an_unknown_task(command, folder, tmp_path):
    result = command(
        "train", "--task", "nmaes", "--encoder", folder("xlm-r"), "--language-model",
        folder("llama"), "-o", tmp_path / "run",
    )  # fmt: skip
    assert one_line(result).startswith("unknown task 'nmaes'; allowed: names, xnli, ")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_fusion(refused):
    assert refused("--fusion", "lsat") == (
        "unknown fusion 'lsat'; allowed: last, uniform, fixed, global-softmax, token-softmax, "
        "scalar-mix, fine-grained, attention, dwatt"
    )


def test_an_unknown_start(refused):
    assert refused("--start", "middle") == "unknown start 'middle'; allowed: uniform, last"


def test_an_unknown_language(command, trained):
    before = sorted(trained.rglob("*"))
    result = command("evaluate", trained, "--task", "names", "--languages", "xx")
    assert one_line(result).startswith("the task names has no test rows in 'xx'; allowed: en, si, ")
    assert sorted(trained.rglob("*")) == before


def test_a_language_of_the_task_that_babel_does_not_have(command, folder, tmp_path):
    (tmp_path / "r.yaml").write_text(
        f"encoder: {folder('xlm-r')}\nlanguage_model: {folder('llama')}\ntask: names\n"
        "task_options: {languages: [xx]}\n"
    )
    result = command("train", "--recipe", tmp_path / "r.yaml", "-o", tmp_path / "run")
    assert one_line(result).startswith("the task names has no names in 'xx'; allowed: en, ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("which", ["--encoder", "--language-model"])
@pytest.mark.parametrize(
    ("model_id", "message"),
    [
        (
            "nobody/nothing",
            "model 'nobody/nothing' is not on this machine, and offline mode is on; "
            "allowed: a model folder, zoo:NAME, or a hub id such as google/mt5-small; next: hf "
            "download nobody/nothing while online",
        ),
        (
            "./absent",
            "the folder './absent' does not exist; allowed: a model folder, zoo:NAME, or a hub id "
            "such as google/mt5-small",
        ),
        ("zoo:smollm3", "the zoo has no model 'smollm3'; allowed: "),
        ("not an id", "'not an id' is not a valid model id; allowed: "),
    ],
)
def test_an_unknown_model_id(refused, which, model_id, message):
    assert refused(which, model_id).startswith(message)


def test_a_model_of_the_wrong_kind(command, train_flags, folder, tmp_path):
    result = command(
        "train", *train_flags, "--language-model", folder("xlm-r"), "-o", tmp_path / "run"
    )
    *_, talk, line = result.err.splitlines()
    assert result.code == 2
    assert talk.endswith("loading the models …")
    assert line == (
        f"error: '{folder('xlm-r')}' is a 'xlm-roberta' model, not a causal language model; "
        "allowed: any AutoModelForCausalLM (Llama, SmolLM2, Qwen, Gemma, GPT-2, …)"
    )
    assert not (tmp_path / "run").exists()


def test_no_network_and_the_model_is_not_cached(refused, tmp_path, monkeypatch):
    # At this address nobody listens.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for key in os.environ:
        if key.lower().endswith("_proxy"):
            monkeypatch.delenv(key)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    # The client reads the proxies when it is made.
    close_session()
    try:
        message = refused("--encoder", "google/mt5-small")
    finally:
        close_session()
    assert message == (
        "model 'google/mt5-small' is not on this machine and cannot be downloaded from the "
        "hub: it cannot be reached; allowed: a model folder, zoo:NAME, or a hub id such as "
        "google/mt5-small; next: check the name and the connection, or use a model of the zoo: "
        "multilingual-e5-small, smollm2-135m-instruct, gemma-3-270m"
    )


# Rows


def test_a_wrong_column(refused, rows):
    assert refused("--text", "body") == f"{rows} has no column 'body'; allowed: text, label"
    assert refused("--target", "class") == f"{rows} has no column 'class'; allowed: text, label"
    assert refused("--template", "News: {headline}") == (
        f"{rows} has no column 'headline'; allowed: text, label"
    )


def test_malformed_jsonl(refused, data):
    path = data('{"text": "a", "label": "b"}\n{"text": "a", \n')
    message = refused("--data", path)
    assert message.startswith(f"{path}, line 2 is not JSON (")
    assert message.endswith("; allowed: one JSON object per line")


def test_an_empty_file(refused, data):
    path = data("")
    assert refused("--data", path) == f"{path} has no rows"


def test_no_such_file(refused, tmp_path):
    path = tmp_path / "absent.jsonl"
    assert refused("--data", path) == f"the file {path} does not exist; next: check the path"


def test_a_label_outside_the_options(refused, rows):
    assert refused("--options", "country,script") == (
        f"{rows}, line 2 has the label 'unit'; allowed: country, script"
    )


def test_a_validation_file_is_read_before_the_models(refused, data):
    path = data("", "more.jsonl")
    assert refused("--validation-data", path) == f"{path} has no rows"


# Settings


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--learning-rate", "fast"),
            "learning_rate='fast' is not valid; allowed: a number above 0",
        ),
        (("--bf16", "perhaps"), "bf16='perhaps' is not valid; allowed: true or false"),
        (("--optim", "adam"), "optim='adam' is not valid; allowed: adamw_torch, "),
        (("--eval-strategy", "epoch"), "eval_strategy='epoch' needs validation rows; next: "),
        (("--report-to", "tensorbored"), "invalid training arguments: "),
        (("--task", "names"), "the run has both a task and data; allowed: "),
        (("--dtyp", "float32"), "unknown flag: '--dtyp'; allowed: --dtype"),
        (("--recipe", "absent.yaml"), "the recipe 'absent.yaml' cannot be read ("),
    ],
)
def test_settings_that_do_not_fit(refused, words, message):
    assert refused(*words).startswith(message)


def test_a_dtype_that_is_none(command, train_flags, tmp_path):
    result = command("train", *train_flags, "--dtype", "int4", "-o", tmp_path / "run")
    assert result.code == 2
    assert result.err.splitlines()[-1] == (
        "error: unknown dtype 'int4'; allowed: auto, float32, bfloat16, float16"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(is_tensorboard_available(), reason="it wants a reporter that is not installed")
def test_a_reporter_that_is_not_installed(command, train_flags, tmp_path):
    result = command("train", *train_flags, "--report-to", "tensorboard", "-o", tmp_path / "run")
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith(
        "error: invalid training arguments: TensorBoardCallback requires tensorboard"
    )
    assert not (tmp_path / "run").exists()


# Checkpoints


@pytest.fixture
def spoilt(trained, tmp_path):
    """A copy of the run, to be damaged."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(params=["ask", "evaluate"])
def asked(request, command, spoilt):
    """Asks the run, by either verb."""
    words = ("x",) if request.param == "ask" else ("--task", "names", "--languages", "si")

    def ask():
        before = sorted(spoilt.rglob("*"))
        message = one_line(command(request.param, spoilt, *words, "--device", "cpu"))
        assert sorted(spoilt.rglob("*")) == before
        return message

    return ask


def test_no_run_there(command, tmp_path):
    message = one_line(command("ask", tmp_path / "absent", "x"))
    assert message == (
        f"there is no folder '{tmp_path / 'absent'}'; "
        "allowed: a folder that `layerbridge train` wrote, or a hub id"
    )
    message = one_line(command("ask", tmp_path, "x"))
    assert message.startswith(f"'{tmp_path}' has no config.json, so it is not a bridge; allowed: ")


def test_weights_cut_short(asked, spoilt):
    file = spoilt / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    message = asked()
    assert message.startswith(f"'{file}' is damaged or truncated (")
    assert message.endswith("; next: train or copy it again")


@pytest.mark.parametrize("content", [b"", b"no safetensors at all", b"\xff" * 400])
def test_weights_that_are_none(asked, spoilt, content):
    (spoilt / "model.safetensors").write_bytes(content)
    assert asked().startswith(f"'{spoilt / 'model.safetensors'}' is damaged or truncated (")


def test_no_weights(asked, spoilt):
    (spoilt / "model.safetensors").unlink()
    assert asked() == f"'{spoilt}' has no model.safetensors; next: train or copy it again"


def test_a_damaged_config(asked, spoilt):
    text = (spoilt / "config.json").read_text()
    (spoilt / "config.json").write_text(text[: len(text) // 2])
    assert asked().startswith(f"'{spoilt / 'config.json'}' is not valid JSON")


def test_a_config_of_another_model(asked, spoilt, folder):
    shutil.copy(folder("llama") / "config.json", spoilt / "config.json")
    assert (
        asked() == f"'{spoilt}' is a 'llama' model, not a bridge; allowed: model_type 'layerbridge'"
    )


def test_tensors_of_another_shape(asked, spoilt):
    config = json.loads((spoilt / "config.json").read_text())
    config["fusion_options"] = {"feedforward": 16}
    (spoilt / "config.json").write_text(json.dumps(config))
    assert ", given its backbones" in asked()


def test_another_backbone(asked, spoilt, folder, tmp_path):
    moved = tmp_path / "changed-encoder"
    shutil.copytree(folder("xlm-r"), moved)
    weights = moved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    config = json.loads((spoilt / "config.json").read_text())
    config["encoder"] = str(moved)
    (spoilt / "config.json").write_text(json.dumps(config))
    message = asked()
    assert message.startswith(
        f"the encoder '{moved}' is not the one this bridge was trained with: its weights are "
    )
    assert message.endswith("; next: restore those weights, or train a new bridge")


def test_a_backbone_that_is_gone(asked, spoilt):
    config = json.loads((spoilt / "config.json").read_text())
    config["encoder"] = "/absent/encoder"
    (spoilt / "config.json").write_text(json.dumps(config))
    assert asked().startswith("the folder '/absent/encoder' does not exist; allowed: ")


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_resuming_from_a_damaged_checkpoint(command, spoilt, name):
    (spoilt / "checkpoint-2" / name).write_bytes(b"cut")
    recipe = spoilt / "recipe.yaml"
    before = {path: path.stat().st_mtime_ns for path in spoilt.rglob("*")}
    longer = ["--resume", "--max-steps", "9"]
    result = command("train", "--recipe", recipe, "-o", spoilt, *longer, "--device", "cpu")
    assert result.code == 2
    line = result.err.splitlines()[-1]
    assert line.startswith(f"error: '{spoilt / 'checkpoint-2' / name}' is ")
    assert {path: path.stat().st_mtime_ns for path in spoilt.rglob("*")} == before


# Output


def test_a_folder_in_use(command, train_flags, spoilt):
    before = {path: path.stat().st_mtime_ns for path in spoilt.rglob("*")}
    message = one_line(command("train", *train_flags, "-o", spoilt))
    assert message == (
        f"'{spoilt}' is not empty; next: --overwrite to replace what is in it, --resume to "
        "continue, or another folder"
    )
    assert {path: path.stat().st_mtime_ns for path in spoilt.rglob("*")} == before


def test_nothing_to_resume(command, train_flags, tmp_path):
    message = one_line(command("train", *train_flags, "-o", tmp_path / "run", "--resume"))
    assert message == (
        f"'{tmp_path / 'run'}' has no checkpoint to resume from; next: leave --resume out"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be(command, train_flags, tmp_path):
    (tmp_path / "run").write_text("mine")
    message = one_line(command("train", *train_flags, "-o", tmp_path / "run", "--overwrite"))
    assert message == f"'{tmp_path / 'run'}' is a file; allowed: a folder"
    assert (tmp_path / "run").read_text() == "mine"


# The zoo


@pytest.mark.parametrize("verb", ["zoo", "train"])
def test_too_little_disk_for_the_zoo(command, train_flags, tmp_path, monkeypatch, verb):
    monkeypatch.setenv("LAYERBRIDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 10**6))
    name = "multilingual-e5-small"
    words = ("zoo", "pull", name)
    if verb == "train":
        words = ("train", *train_flags, "--encoder", f"zoo:{name}", "-o", tmp_path / "run")
    message = one_line(command(*words))
    needed = 2 * store.entry(name).download_mb + store.entry(name).disk_mb
    assert message == (
        f"{name} needs {needed} MB in {tmp_path / 'home' / 'zoo'}, but only 1 MB are free; next: "
        "free some space, or set LAYERBRIDGE_HOME to a folder on a larger disk"
    )
    assert [path for path in (tmp_path / "home" / "zoo").iterdir() if path.is_dir()] == []
    assert not (tmp_path / "run").exists()


# Training


def test_a_loss_that_is_no_number(command, train_flags, tmp_path):
    output = tmp_path / "run"
    result = command(
        "train", *train_flags, "--max-steps", "9", "--learning-rate", "1e38", "--fusion", "last",
        "--save-strategy", "steps", "--save-steps", "1", "-o", output,
    )  # fmt: skip
    assert (result.code, result.out) == (2, "")
    lines = result.err.splitlines()
    assert [line.startswith("error: ") for line in lines] == [False] * (len(lines) - 1) + [True]
    (kept,) = output.glob("checkpoint-*")
    step = int(kept.name.removeprefix("checkpoint-")) + 1
    assert lines[-1].startswith("error: ")
    assert lines[-1].endswith(
        f" at step {step}; next: lower --learning-rate or raise --warmup-steps, or train in "
        f"float32; the last good checkpoint is {kept}"
    )
    LayerBridge.from_pretrained(kept, dtype="float32")
    assert not (output / "model.safetensors").exists()
    assert Path(output / "recipe.yaml").is_file()
