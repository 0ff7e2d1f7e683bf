"""Tiny backbones for every test, shared for the session, and shapes checked as annotated."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import transformers
from jaxtyping import install_import_hook

# Outside the hook: it slows every import that it watches.
from transformers import GenerationMixin, PreTrainedModel  # noqa: F401

with install_import_hook("layerbridge", "beartype.beartype"):
    import layerbridge.alignment
    import layerbridge.model
    from layerbridge.backbone import LoadOptions
    from layerbridge.config import BridgeConfig
    from layerbridge.encoder import Encoder
    from layerbridge.language_model import LanguageModel
    from layerbridge.model import LayerBridge
    from layerbridge.sources import resolve

import tiny

FLOAT32 = LoadOptions(dtype="float32")


@pytest.fixture(autouse=True)
def _alone(request, tmp_path_factory, monkeypatch):
    """No test finds or leaves anything in the user's cache, or asks a hub."""
    if request.node.get_closest_marker("real"):
        return
    monkeypatch.setenv("LAYERBRIDGE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session", autouse=True)
def _quiet():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Name → the folder of that tiny backbone."""
    return cache(lambda name: tiny.write(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session")
def whole(folder):
    """Name → the whole model as transformers alone reads it, in eval mode."""
    return cache(lambda name: tiny.WHOLE[name].from_pretrained(folder(name)).eval())


@pytest.fixture(scope="session")
def load_encoder(folder):
    """Name → the encoder, the same object each time; a test that changes it makes its own."""
    return cache(lambda name: Encoder.load(resolve(str(folder(name))), FLOAT32))


@pytest.fixture(scope="session")
def load_lm(folder):
    """Name → the language model, the same object each time."""
    return cache(lambda name: LanguageModel.load(resolve(str(folder(name))), FLOAT32))


@pytest.fixture
def make_bridge(load_encoder, load_lm, folder):
    """A new bridge between shared backbones, its trained tensors moved off their start."""

    def make(encoder="mt5", language_model="llama", fusion="token-softmax", **settings):
        config = BridgeConfig(
            encoder=str(folder(encoder)),
            language_model=str(folder(language_model)),
            fusion=fusion,
            **settings,
        )
        bridge = LayerBridge(config, load_encoder(encoder), load_lm(language_model))
        scatter(bridge)
        return bridge.eval()

    return make


def scatter(bridge: LayerBridge, seed: int = 0) -> None:
    """Random values in every trained tensor: a boundary or a query of zeros would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in bridge.trained_state_dict().items():
            scale = 1e-2 if name in ("fusion.w", "fusion.theta") else 0.3
            scale = 1e-4 if name == "fusion.theta" else scale
            tensor += scale * torch.randn(tensor.shape, generator=generator)
