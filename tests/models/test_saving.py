"""A bridge goes to the hub and comes back: a hub in this process has the routes for it."""

import json

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, constants
from safetensors.torch import load
from transformers import AutoModel

from fake_hub import TOKEN, hub  # noqa: F401
from layerbridge.errors import BackboneError, CheckpointError
from layerbridge.models.bridge import LayerBridge

FILES = {"README.md", "config.json", "model.safetensors"}


def from_hub(**options):
    return LayerBridge.from_pretrained("me/bridge", dtype="float32", **options)


def refused(**options):
    with pytest.raises(CheckpointError) as caught:
        from_hub(**options)
    return str(caught.value)


def equal(one, other):
    others = other.trained_state_dict()
    return all(torch.equal(t, others[name]) for name, t in one.trained_state_dict().items())


def push(bridge, **arguments):
    return bridge.push_to_hub("bridge", token=TOKEN, **arguments).oid


def test_there_and_back_by_revision(hub, make_bridge, monkeypatch):  # noqa: F811
    bridge = make_bridge(options=["a", "b"])
    first = push(bridge)
    with torch.no_grad():
        bridge.projection.boundary.add_(1)
    push(bridge)
    files = hub.files("me/bridge")
    assert set(files) == FILES
    assert load(files["model.safetensors"]).keys() == bridge.trained_state_dict().keys()
    card = ModelCard(files["README.md"].decode())
    assert card.data.pipeline_tag == "text-classification"
    assert 'LayerBridge.from_pretrained("me/bridge")' in card.text
    assert equal(from_hub(), bridge)
    old = AutoModel.from_pretrained("me/bridge", revision=first, dtype="float32")
    assert not equal(old, bridge)
    assert equal(from_hub(revision=first), old)
    assert refused(revision="v9") == (
        "there is no folder 'me/bridge', and bridge 'me/bridge' has no revision 'v9'; allowed: "
        "one of its branches, tags or commits; next: omit the revision to get the latest"
    )
    # What is here can be used when the hub cannot be asked.
    hub.repositories.clear()
    assert refused(revision="v1").startswith(
        "there is no folder 'me/bridge', and the hub has no bridge 'me/bridge', or it is private; "
    )
    assert equal(from_hub(local_files_only=True), bridge)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert equal(from_hub(), bridge)
    assert equal(from_hub(revision=first), old)
    assert refused(revision="v1") == (
        "there is no folder 'me/bridge', and bridge 'me/bridge' at revision 'v1' is not on this "
        "machine, and offline mode is on; allowed: a folder that `layerbridge train` wrote, or a "
        "hub id; next: hf download me/bridge --revision v1 while online"
    )


def test_a_private_bridge_on_a_private_encoder(hub, make_bridge, folder, tmp_path):  # noqa: F811
    """The token and the cache are those of all downloads."""
    api = HfApi(token=TOKEN)
    api.create_repo("me/encoder", private=True)
    commit = api.upload_folder(repo_id="me/encoder", folder_path=folder("mt5")).oid
    bridge = make_bridge()
    bridge.config.encoder, bridge.config.encoder_revision = "me/encoder", commit
    push(bridge, private=True)
    assert hub.repositories["me/bridge"].private
    assert refused(token=False) == (
        "there is no folder 'me/bridge', and the hub has no bridge 'me/bridge', or it is private; "
        "allowed: a folder that `layerbridge train` wrote, or a hub id; next: check the spelling; "
        "for a private bridge run: hf auth login"
    )
    cache = tmp_path / "cache"
    loaded = from_hub(token=TOKEN, cache_dir=cache)
    assert equal(loaded, bridge)
    assert loaded.config.encoder == "me/encoder"
    assert {path.name for path in cache.glob("models--*")} == {
        "models--me--bridge",
        "models--me--encoder",
    }
    assert not list((tmp_path / "hub-cache").glob("models--*"))
    assert equal(from_hub(cache_dir=cache, local_files_only=True), bridge)
    with pytest.raises(CheckpointError, match="is not on this machine, and offline mode is on"):
        from_hub(local_files_only=True)
    hub.repositories["me/bridge"].private = False
    with pytest.raises(BackboneError, match="the hub has no model 'me/encoder', or it is private"):
        from_hub(token=False)


def test_the_card_and_results_of_a_run_come_along(hub, make_bridge, tmp_path):  # noqa: F811
    run = tmp_path / "run"
    make_bridge().save_pretrained(run)
    (run / "README.md").write_text('# Ours\n\nLayerBridge.from_pretrained("THIS FOLDER OR ID")\n')
    (run / ".eval_results").mkdir()
    (run / ".eval_results" / "xnli.yaml").write_text("- value: 1\n")
    bridge = LayerBridge.from_pretrained(run, dtype="float32")
    push(bridge)
    files = hub.files("me/bridge")
    assert set(files) == {*FILES, ".eval_results/xnli.yaml"}
    assert files["README.md"].decode() == '# Ours\n\nLayerBridge.from_pretrained("me/bridge")\n'
    bridge.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "README.md").read_text().startswith("# Ours\n")
    # Trained anew, it has a card of its own, and no results yet.
    bridge.card = "# Another\n"
    bridge.push_to_hub("other", token=TOKEN)
    assert set(hub.files("me/other")) == FILES
    assert hub.files("me/other")["README.md"] == b"# Another\n"


def test_a_folder_has_no_revisions(make_bridge, tmp_path):
    make_bridge().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        LayerBridge.from_pretrained(tmp_path, revision="v1")
    assert str(caught.value) == (
        f"revision 'v1' was given for the local bridge {str(tmp_path)!r}; allowed: revisions of "
        "hub ids only; next: omit the revision"
    )
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "layerbridge"
