import json
import shutil

import pytest

from layerbridge.errors import CheckpointError
from layerbridge.hub import sources
from layerbridge.hub.sources import Source, resolve
from layerbridge.models import backbone_pair
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.backbone_pair import have_same_weights, load_backbones, record_weights
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel

FLOAT32 = LoadOptions(dtype="float32")
COMMIT, OTHER = "1" * 40, "2" * 40


@pytest.fixture
def hub(monkeypatch, folder):
    """Hub ids whose files are those of the tiny backbones, as long as they are downloaded."""
    names = {"org/encoder": "mt5", "org/lm": "llama"}
    known = set(names)
    monkeypatch.setattr(
        Source,
        "_snapshot",
        lambda self: (
            folder(names[self.path]) if self.path in known and self.revision == COMMIT else None
        ),
    )
    return known


@pytest.fixture
def no_network(monkeypatch):
    """Any look for a model on the hub fails."""

    def refuse(*arguments, **keywords):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(sources, "on_hub", refuse)


def on_hub(**settings):
    return BridgeConfig(
        encoder="org/encoder",
        language_model="org/lm",
        encoder_revision=COMMIT,
        language_model_revision=COMMIT,
        **settings,
    )


@pytest.mark.parametrize("fingerprint", ["commit", "content"])
def test_given_backbones_need_no_network_and_are_checked(
    hub, no_network, load_encoder, load_lm, tmp_path, make_bridge, fingerprint
):
    """They come from folders, and the bridge was trained with the hub's."""
    path = tmp_path / "run"
    make_bridge().save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    for name, kind in (("encoder", "encoder"), ("language_model", "lm")):
        config |= {name: f"org/{kind}", f"{name}_revision": COMMIT}
        config[f"{name}_fingerprint"] = COMMIT
        if fingerprint == "content":
            source = Source(f"org/{kind}", "hub", f"org/{kind}", COMMIT)
            config[f"{name}_fingerprint"] = source.fingerprint()
    (path / "config.json").write_text(json.dumps(config))
    if fingerprint == "content":
        hub.clear()  # the hub's files are not needed any more
    given = {"encoder": load_encoder("mt5"), "language_model": load_lm("llama")}
    bridge = LayerBridge.from_pretrained(path, **given)
    assert bridge.config.encoder_revision == COMMIT
    assert bridge.config.encoder_fingerprint == config["encoder_fingerprint"]
    for name, wrong in (("encoder", load_encoder("xlm-r")), ("language_model", load_lm("gpt2"))):
        with pytest.raises(CheckpointError) as caught:
            LayerBridge.from_pretrained(path, **{**given, name: wrong})
        assert str(caught.value).startswith(
            f"the {name.replace('_', ' ')} {wrong.source.given!r} is not the one this bridge was "
            f"trained with: its weights are {wrong.source.fingerprint()[:12]}; allowed: weights "
            f"{config[f'{name}_fingerprint'][:12]}; next: restore"
        )


def test_a_new_bridge_between_given_backbones_records_theirs(no_network, load_encoder, load_lm):
    encoder, lm = load_encoder("mt5"), load_lm("llama")
    config = BridgeConfig(encoder="org/encoder", language_model="org/lm")
    LayerBridge.from_parts(config, encoder, lm)
    assert config.encoder_fingerprint == encoder.source.fingerprint()
    assert config.language_model_fingerprint == lm.source.fingerprint()
    assert config.encoder_revision is None


def test_backbones_built_by_hand(load_encoder, load_lm, folder):
    encoder = Encoder(load_encoder("mt5").model, load_encoder("mt5").tokenizer)
    lm = LanguageModel(load_lm("llama").model, load_lm("llama").tokenizer)
    assert encoder.source is lm.source is None
    config = BridgeConfig(encoder=str(folder("mt5")), language_model="org/absent")
    record_weights(config, encoder, lm)
    assert config.encoder_fingerprint == resolve(str(folder("mt5"))).fingerprint()
    assert config.language_model_fingerprint is None
    assert encoder.with_settings(max_text_tokens=3, embedding_layer=False).source is None


def test_a_downloaded_model_is_recorded_by_its_content(
    hub, folder, load_encoder, load_lm, monkeypatch
):
    hub.clear()
    loads = []

    def loader(kind):
        def load(source, options, **settings):
            loads.append(kind)
            hub.update({"org/encoder", "org/lm"})  # as transformers downloads it
            return {"encoder": load_encoder("mt5")}.get(kind) or load_lm("llama")

        return load

    monkeypatch.setattr(backbone_pair.Encoder, "load", loader("encoder"))
    monkeypatch.setattr(backbone_pair.LanguageModel, "load", loader("language model"))
    monkeypatch.setattr(
        backbone_pair, "resolve", lambda name, **_: Source(name, "hub", name, COMMIT)
    )
    config = BridgeConfig(encoder="org/encoder", language_model="org/lm")
    load_backbones(config, FLOAT32)
    assert loads == ["encoder", "language model"]
    assert config.encoder_revision == COMMIT
    assert config.encoder_fingerprint == resolve(str(folder("mt5"))).fingerprint()


def test_configs_that_name_the_same_weights(hub, folder):
    content = resolve(str(folder("mt5"))).fingerprint()
    in_folder = BridgeConfig(encoder=str(folder("mt5")), encoder_fingerprint=content)
    moved = BridgeConfig(encoder="/elsewhere", encoder_fingerprint=content)
    others = BridgeConfig(encoder=str(folder("mt5")), encoder_fingerprint="f" * 64)
    same = [in_folder, moved, on_hub(encoder_fingerprint=COMMIT), on_hub()]
    same += [on_hub(encoder_fingerprint=content)]
    for first in same:
        for second in same:
            assert have_same_weights(first, second, "encoder")
        assert not have_same_weights(first, others, "encoder")
    later = BridgeConfig(encoder="org/encoder", encoder_revision=OTHER, encoder_fingerprint=OTHER)
    assert not have_same_weights(later, on_hub(), "encoder")
    # Without either, names are all there is.
    assert have_same_weights(BridgeConfig(encoder="a"), BridgeConfig(encoder="a"), "encoder")
    assert not have_same_weights(BridgeConfig(encoder="a"), BridgeConfig(encoder="b"), "encoder")


def test_weights_that_changed(folder, tmp_path, load_lm):
    path = shutil.copytree(folder("mt5"), tmp_path / "mt5")
    config = BridgeConfig(encoder=str(path), language_model="org/lm")
    load_backbones(config, FLOAT32, language_model=load_lm("llama"))
    known = config.encoder_fingerprint
    (path / "model.safetensors").write_bytes(b"other")
    with pytest.raises(CheckpointError, match=f"allowed: weights {known[:12]}"):
        load_backbones(config, FLOAT32, language_model=load_lm("llama"), trained=True)
