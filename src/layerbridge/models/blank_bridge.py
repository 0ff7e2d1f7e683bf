"""A bridge without weights: it tokenizes, counts and knows its settings, and can compute nothing.

Whoever only prepares input needs no more than that, and saves the time and the memory.
"""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM

from layerbridge.hub.sources import Source
from layerbridge.models.backbone import LoadOptions, load, load_config, load_tokenizer
from layerbridge.models.backbone_pair import backbone_source, load_backbones
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.checkpoint import read_config
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.encoder_loading import build_text_encoder
from layerbridge.models.language_model import LanguageModel, causal_config
from layerbridge.models.probes.encoder_traits import EncoderTraits


def blank_bridge(
    path: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> LayerBridge:
    """Loads a trained bridge without its weights and those of its backbones.

    Args:
        path: a folder written by ``save_pretrained``, or a hub id.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run code that comes with a model.

    Raises:
        CheckpointError: a file is missing, or a backbone is not the one it was trained with.
        BackboneError: a backbone cannot be found.
    """
    config, folder = read_config(path, revision=revision)
    options = LoadOptions(dtype="float32", trust_remote_code=trust_remote_code)
    encoder = _encoder(config, options)
    language_model = blank_language_model(backbone_source(config, "language_model"), options)
    load_backbones(config, options, encoder, language_model, trained=True)  # compares their weights
    bridge = LayerBridge(config, encoder, language_model).eval()
    bridge.load_centering(folder)
    return bridge


def blank_language_model(source: Source, options: LoadOptions) -> LanguageModel:
    """Returns the language model at ``source`` without weights.

    Raises:
        BackboneError: it cannot be found, or is not a causal language model.
    """
    config = causal_config(source, options)

    def build() -> LanguageModel:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                config, trust_remote_code=options.trust_remote_code
            )
        tokenizer = load_tokenizer("language model", source, options)
        return LanguageModel(model, tokenizer, has_body=False, source=source)

    return load("language model", source, build)


def _encoder(config: BridgeConfig, options: LoadOptions) -> Encoder:
    source = backbone_source(config, "encoder")
    model_config = load_config("encoder", source, options)
    with torch.device("meta"):
        model = build_text_encoder(source, model_config, options)
    assert config.encoder_width is not None
    assert config.encoder_layers is not None
    traits = EncoderTraits(
        num_layers=config.encoder_layers - config.embedding_layer,
        width=config.encoder_width,
        embedding_width=config.encoder_width,
        can_be_shallow=False,
    )
    return Encoder(
        model,
        load_tokenizer("encoder", source, options),
        max_text_tokens=config.max_text_tokens,
        embedding_layer=config.embedding_layer,
        source=source,
        traits=traits,
    )
