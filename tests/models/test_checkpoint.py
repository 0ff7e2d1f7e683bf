import json
import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from layerbridge.errors import BackboneError, CheckpointError, ConfigError
from layerbridge.models import tensor_file
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.version import __version__

FILES = {"README.md", "config.json", "model.safetensors"}
TEXTS = ["The market rose", "ශ්‍රී", ""]


@pytest.fixture
def trained(folder):
    """A bridge whose config knows its backbones."""
    torch.manual_seed(0)
    return LayerBridge.from_backbones(
        str(folder("mt5")), str(folder("llama")), "token-softmax", dtype="float32"
    ).eval()


@pytest.fixture
def saved(trained, tmp_path):
    path = tmp_path / "bridge"
    trained.save_pretrained(path)
    return path


def load(path, **options):
    return LayerBridge.from_pretrained(path, dtype="float32", **options)


def refused(path, error=CheckpointError):
    with pytest.raises(error) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "FOLDER")


def logits(bridge):
    with torch.no_grad():
        return bridge(**bridge.encoder.tokenize(TEXTS)).logits


def rewrite(path, change):
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors")


def test_files_and_what_is_in_them(trained, saved, folder):
    assert {file.name for file in saved.iterdir()} == FILES
    tensors = load_file(saved / "model.safetensors")
    assert set(tensors) == set(trained.trained_state_dict())
    assert {name.split(".")[0] for name in tensors} == {"fusion", "projection"}
    for name, tensor in trained.trained_state_dict().items():
        assert torch.equal(tensors[name], tensor)
    with safe_open(saved / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    config = json.loads((saved / "config.json").read_text())
    assert config["model_type"] == "layerbridge"
    assert config["layerbridge_version"] == __version__
    assert config["encoder"] == str(folder("mt5"))
    assert config["language_model"] == str(folder("llama"))
    assert config["encoder_fingerprint"] == trained.config.encoder_fingerprint
    assert len(config["language_model_fingerprint"]) == 64
    assert (config["encoder_width"], config["encoder_layers"]) == (32, 3)
    card = (saved / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: layerbridge\n")
    assert str(folder("mt5")) in card
    assert "`token-softmax`" in card


def test_files_can_be_read_by_those_who_may_read_files(saved):
    umask = os.umask(0)
    os.umask(umask)
    for name in FILES:
        assert stat.S_IMODE((saved / name).stat().st_mode) == 0o666 & ~umask, name


@pytest.mark.parametrize("fusion", ["last", "uniform", "global-softmax", "token-softmax"])
@pytest.mark.parametrize(("encoder", "lm"), [("mt5", "llama"), ("xlm-r", "gemma2")])
def test_save_and_load_to_the_bit(make_bridge, tmp_path, fusion, encoder, lm):
    bridge = make_bridge(
        encoder, lm, fusion, normalize="rms", instruction="Answer:", options=["a", "b"]
    )
    bridge.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert torch.equal(logits(loaded), logits(bridge))
    assert not loaded.training
    assert loaded.config.options == ["a", "b"]
    shared = load(tmp_path, encoder=bridge.encoder, language_model=bridge.language_model)
    assert shared.encoder is bridge.encoder
    assert torch.equal(logits(shared), logits(bridge))


def test_without_a_boundary(make_bridge, tmp_path):
    bridge = make_bridge(boundary=False)
    bridge.save_pretrained(tmp_path)
    assert "projection.boundary" not in load_file(tmp_path / "model.safetensors")
    assert torch.equal(logits(load(tmp_path)), logits(bridge))


def test_other_tensors_can_be_written_in_its_place(trained, tmp_path):
    """As the Trainer does; what is no part of the bridge is left out."""
    state = {name: tensor + 1 for name, tensor in trained.state_dict().items()}
    trained.save_pretrained(tmp_path, state_dict=state)
    tensors = load_file(tmp_path / "model.safetensors")
    assert set(tensors) == set(trained.trained_state_dict())
    assert torch.equal(tensors["projection.boundary"], state["projection.boundary"])


def test_saving_again_keeps_a_card_that_somebody_wrote(trained, saved):
    (saved / "README.md").write_text("mine")
    trained.save_pretrained(saved)
    assert (saved / "README.md").read_text() == "mine"
    trained.card = "# A better one"
    trained.save_pretrained(saved)
    assert (saved / "README.md").read_text() == "# A better one"
    assert {file.name for file in saved.iterdir()} == FILES


def test_a_file_in_the_way(trained, tmp_path):
    (tmp_path / "bridge").write_text("")
    with pytest.raises(CheckpointError) as caught:
        trained.save_pretrained(tmp_path / "bridge")
    path = str(tmp_path / "bridge")
    assert str(caught.value) == f"cannot save to {path!r}, which is a file; allowed: a folder"


@pytest.mark.parametrize("broken", ["weights", "config"])
def test_a_save_that_fails_leaves_the_old_checkpoint(trained, saved, monkeypatch, broken):
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    expected = logits(trained)

    def half(tensors, file, **arguments):
        Path(file).write_bytes(b"half a file")
        raise OSError("No space left on device")

    def half_config(self, folder, **arguments):
        (Path(folder) / "config.json").write_text("{")
        raise OSError("No space left on device")

    if broken == "weights":
        monkeypatch.setattr(tensor_file, "save_file", half)
    else:
        monkeypatch.setattr(BridgeConfig, "save_pretrained", half_config)
    with torch.no_grad():
        trained.projection.boundary += 1
    with pytest.raises(OSError, match=r"^No space left on device$"):
        trained.save_pretrained(saved)
    monkeypatch.undo()
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
    assert torch.equal(logits(load(saved)), expected)


def test_damaged_weights(saved):
    file = saved / "model.safetensors"
    whole = file.read_bytes()
    for damaged in (whole[:-100], whole[:5], b"", b"x" * 1000):
        file.write_bytes(damaged)
        message = refused(saved)
        assert message.startswith("'FOLDER/model.safetensors' is damaged or truncated (")
        assert message.endswith("); next: train or copy it again")
    file.unlink()
    assert refused(saved) == "'FOLDER' has no model.safetensors; next: train or copy it again"


def test_tensors_that_do_not_fit(saved, trained):
    names = ", ".join(sorted(trained.trained_state_dict()))
    whole = (saved / "model.safetensors").read_bytes()
    rewrite(saved, lambda tensors: tensors.pop("fusion.query"))
    assert refused(saved) == f"FOLDER lacks the tensor 'fusion.query'; allowed: {names}"
    (saved / "model.safetensors").write_bytes(whole)
    rewrite(saved, lambda tensors: tensors.update(extra=torch.ones(1)))
    assert refused(saved) == (f"FOLDER has an unexpected tensor 'extra'; allowed: {names}")
    (saved / "model.safetensors").write_bytes(whole)
    rewrite(saved, lambda tensors: tensors.update({"fusion.query": torch.ones(31)}))
    assert refused(saved) == (
        "FOLDER has 'fusion.query' of shape [31]; allowed: shape [32], given its backbones"
    )


def test_damaged_config(saved):
    (saved / "config.json").write_text("{")
    assert refused(saved) == "'FOLDER/config.json' is not valid JSON"
    (saved / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert refused(saved) == (
        "'FOLDER' is a 'bert' model, not a bridge; allowed: model_type 'layerbridge'"
    )
    (saved / "config.json").write_text("{}")
    assert refused(saved).startswith("'FOLDER' is a None model, not a bridge")
    (saved / "config.json").unlink()
    assert refused(saved) == (
        "'FOLDER' has no config.json, so it is not a bridge; allowed: a folder that `layerbridge "
        "train` or save_pretrained wrote, or a hub id"
    )


def test_a_setting_that_does_not_fit(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "start": "first"}))
    assert refused(saved, ConfigError) == "unknown start 'first'; allowed: uniform, last"
    (saved / "config.json").write_text(json.dumps({**config, "max_text_tokens": "many"}))
    assert refused(saved).startswith("'FOLDER/config.json' has an invalid setting: ")
    for what in ("encoder", "language_model"):
        (saved / "config.json").write_text(json.dumps({**config, what: None}))
        assert refused(saved) == f"'FOLDER/config.json' has no {what}; allowed: a model id"


def test_no_such_bridge(tmp_path):
    accepted = "allowed: a folder that `layerbridge train` wrote, or a hub id"
    assert refused(tmp_path / "nowhere") == f"there is no folder 'FOLDER'; {accepted}"
    assert refused(Path("org/no-such-bridge")) == (
        "there is no folder 'FOLDER', and bridge 'FOLDER' is not on this machine, and offline mode "
        f"is on; {accepted}; next: hf download FOLDER while online"
    )


@pytest.fixture
def apart(folder, tmp_path):
    """A saved bridge whose backbones are copies that may be changed."""
    paths = {name: shutil.copytree(folder(name), tmp_path / name) for name in ("mt5", "llama")}
    bridge = LayerBridge.from_backbones(
        str(paths["mt5"]), str(paths["llama"]), "last", dtype="float32"
    )
    bridge.save_pretrained(tmp_path / "bridge")
    return tmp_path / "bridge", paths


@pytest.mark.parametrize(("name", "what"), [("mt5", "encoder"), ("llama", "language model")])
def test_a_backbone_that_was_changed(apart, name, what):
    path, paths = apart
    load(path)
    file = paths[name] / "model.safetensors"
    tensors = load_file(file)
    first = sorted(tensors)[0]
    tensors[first].view(-1)[0] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    known = json.loads((path / "config.json").read_text())[f"{what.replace(' ', '_')}_fingerprint"]
    message = refused(path)
    start = f"the {what} {str(paths[name])!r} is not the one this bridge was trained with: its "
    assert message.startswith(start + "weights are ")
    assert message.endswith(
        f"; allowed: weights {known[:12]}; next: restore those weights, or train a new bridge"
    )
    assert message.count(known[:12]) == 1


def test_a_backbone_that_is_gone(apart):
    path, paths = apart
    shutil.rmtree(paths["mt5"])
    assert refused(path, BackboneError).startswith(
        f"the folder {str(paths['mt5'])!r} does not exist; "
    )


def test_a_backbone_that_moved_can_be_named_anew(apart):
    """It is known by its weights, not by its place."""
    path, paths = apart
    moved = paths["mt5"].rename(paths["mt5"].with_name("moved"))
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "encoder": str(moved)}))
    assert load(path).config.encoder == str(moved)


@pytest.mark.parametrize("through", ["push", "save"])
def test_push_to_hub_warns_of_folders_of_this_machine(
    trained, tmp_path, monkeypatch, capfd, through
):
    for name in ("create_repo", "upload_folder"):
        monkeypatch.setattr(
            f"huggingface_hub.HfApi.{name}", lambda self, *_, **__: SimpleNamespace(repo_id="me/b")
        )
    local, trained.config.language_model = trained.config.encoder, "zoo:smollm2-135m-instruct"
    capfd.readouterr()
    if through == "push":
        trained.push_to_hub("b")
    else:
        trained.save_pretrained(tmp_path / "mine", push_to_hub=True)
    assert capfd.readouterr().err == (
        f"warning: the uploaded config.json names {local!r}, a folder of this machine, as its "
        "encoder: nobody else can load the bridge; train it with a hub id or a model of the zoo\n"
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_saved_numbers_that_are_not_finite(saved, number):
    tensors = load_file(saved / "model.safetensors")
    tensors["projection.linear.bias"][1] = number
    save_file(tensors, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        load(saved)
    assert str(caught.value) == (
        f"{saved} has NaN or infinite numbers in 'projection.linear.bias'; next: train the bridge "
        "again"
    )


def test_save_and_push_in_one(trained, tmp_path, monkeypatch):
    pushed = []
    monkeypatch.setattr(
        LayerBridge, "push_to_hub", lambda self, *arguments, **kw: pushed.append((arguments, kw))
    )
    trained.save_pretrained(tmp_path / "mine", push_to_hub=True, private=True)
    trained.save_pretrained(tmp_path / "mine", push_to_hub=True, repo_id="me/other")
    assert pushed == [(("mine",), {"private": True}), (("me/other",), {})]
    assert {file.name for file in (tmp_path / "mine").iterdir()} == FILES
