import importlib
import sys

import pytest
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from layerbridge.errors import BackboneError, ConfigError
from layerbridge.models import auto_models, auto_registration
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.bridge_tokenizer import BridgeTokenizer
from layerbridge.models.config import BridgeConfig

LABELS = ["country", "time zone", "unit"]


@pytest.fixture
def saved(make_bridge, tmp_path):
    make_bridge(options=LABELS).save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def test_auto_classes_know_bridges(saved):
    assert type(AutoConfig.from_pretrained(saved)) is BridgeConfig
    assert type(AutoTokenizer.from_pretrained(saved)) is BridgeTokenizer
    for auto, cls in (
        (AutoModel, LayerBridge),
        (AutoModelForCausalLM, auto_models.LayerBridgeForCausalLM),
        (AutoModelForSequenceClassification, auto_models.LayerBridgeForSequenceClassification),
    ):
        assert type(auto.from_pretrained(saved, dtype="float32")) is cls
        with pytest.raises(ConfigError, match="cannot be made from a config alone"):
            auto.from_config(BridgeConfig())


def test_settings_given_to_an_auto_class_count(saved):
    bridge = AutoModel.from_pretrained(saved, max_text_tokens=7, dtype="float32")
    assert bridge.encoder.max_text_tokens == 7
    with pytest.raises(ConfigError, match="a bridge is not loaded with 'use_magic'; allowed: "):
        AutoModel.from_pretrained(saved, use_magic=True)
    with pytest.raises(ConfigError, match="a bridge is not loaded with 'padding_side'; allowed: "):
        AutoTokenizer.from_pretrained(saved, padding_side="left")


def test_a_bridge_is_no_encoder_of_another(saved, folder):
    with pytest.raises(BackboneError, match="is a 'layerbridge' model, which is not a supported"):
        LayerBridge.from_backbones(str(saved), str(folder("llama")))
    with pytest.raises(BackboneError, match="is a 'layerbridge' model, not a causal language"):
        LayerBridge.from_backbones(str(folder("mt5")), str(saved))


def test_it_waits_for_the_modules_of_transformers(tmp_path, monkeypatch):
    """Whether they are imported before layerbridge or after it."""
    (tmp_path / "early.py").write_text("")
    (tmp_path / "late.py").write_text("value = 1")
    monkeypatch.syspath_prepend(tmp_path)
    finders = [each for each in sys.meta_path if type(each) is not auto_registration._Finder]
    monkeypatch.setattr(sys, "meta_path", finders)
    registered = []
    modules = {
        name: lambda name=name: registered.append((name, vars(sys.modules[name]).get("value")))
        for name in ("early", "late", "never")
    }
    monkeypatch.setattr(auto_registration, "_REGISTER", modules)
    importlib.import_module("early")
    auto_registration.install()
    assert registered == [("early", None)]
    importlib.import_module("late")
    importlib.import_module("late")
    assert registered == [("early", None), ("late", 1)]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("never")
    for name in ("early", "late"):
        del sys.modules[name]
