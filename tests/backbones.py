"""Fixtures: tiny backbones, shared for the session, and shapes checked as annotated."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import transformers
from jaxtyping import install_import_hook

# Outside the hook, which slows every import that happens inside it, and which would check the
# config's __init__ against its fields, where transformers accepts more than those.
from transformers import GenerationMixin, PreTrainedModel  # noqa: F401

from layerbridge.models.config import BridgeConfig

# These have no tensors, and messages of their own for values of a wrong type.
from layerbridge.tasks import labels, registry  # noqa: F401

with install_import_hook("layerbridge", "beartype.beartype"):
    from layerbridge.hub.sources import resolve
    from layerbridge.models.backbone import LoadOptions
    from layerbridge.models.bridge import LayerBridge
    from layerbridge.models.encoder import Encoder
    from layerbridge.models.language_model import LanguageModel

import tiny
from naive_bridge import NaiveBridge

FLOAT32 = LoadOptions(dtype="float32")


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
        with torch.random.fork_rng():
            torch.manual_seed(0)
            bridge = LayerBridge(config, load_encoder(encoder), load_lm(language_model))
            scatter(bridge)
        return bridge.eval()

    return make


@pytest.fixture
def naive_of(whole):
    """Bridge and the names of its backbones → the naive bridge with a copy of its tensors."""
    states = {}

    def make(bridge, encoder="mt5", language_model="llama"):
        model = whole(encoder)
        half = model.config.is_encoder_decoder
        trained = {name for name, p in bridge.named_parameters() if p.requires_grad}
        tensors = {
            name: tensor.clone().requires_grad_(name in trained)
            for name, tensor in bridge.trained_state_dict().items()
        }
        return NaiveBridge(
            encoder=model.get_encoder() if half else model.base_model,
            language_model=whole(language_model).requires_grad_(False),
            encoder_tokenizer=bridge.encoder.tokenizer,
            lm_tokenizer=bridge.language_model.tokenizer,
            tensors=tensors,
            fusion=bridge.config.fusion,
            instruction=bridge.config.instruction,
            normalize=bridge.config.normalize,
            states=states.setdefault(encoder, {}),
        )

    return make


def scatter(bridge: LayerBridge) -> None:
    """Random values in every trained tensor: a boundary or a query of zeros would hide mistakes."""
    with torch.no_grad():
        for name, tensor in bridge.trained_state_dict().items():
            scale = {"fusion.w": 1e-2, "fusion.theta": 1e-4}.get(name, 0.3)
            noise = scale * torch.randn(tensor.shape)
            # What is divided by stays away from zero.
            tensor.add_(noise.abs() if name == "projection.std" else noise)
