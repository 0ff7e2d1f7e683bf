"""Loading what reads text in a checkpoint: of an encoder-decoder its encoder alone.

Decoders, poolers and vision towers are left out, since nobody reads them.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

from layerbridge.errors import BackboneError
from layerbridge.hub.sources import Source
from layerbridge.models.backbone import LoadOptions, load, load_weights
from layerbridge.models.config import BridgeConfig
from layerbridge.models.placement import put

SUPPORTED = (
    "models that read text: encoders (XLM-R, mmBERT, …), encoder-decoders (mT5, NLLB, …) and "
    "causal language models (Gemma, Qwen, …)"
)

# What multimodal models call the part that reads text.
_TEXT_PARTS = ("language_model", "text_model")
# What transformers notes on the whole model.
_HOW_LOADED = ("hf_device_map", "hf_quantizer", "is_quantized", "quantization_method")


def load_text_encoder(
    source: Source, config: PreTrainedConfig, options: LoadOptions
) -> PreTrainedModel:
    """Loads what reads text in the model at ``source``, onto its device.

    Args:
        source: where the model is.
        config: of the whole model.
        options: dtype and the like.

    Raises:
        BackboneError: it cannot be loaded, or reads no text.
    """
    loader, config, arguments = _loader(source, config, options)
    model = load_weights("encoder", source, loader, config, arguments, unread="pooler")
    model = put(model, options.device_of("encoder"), arguments.get("device_map"))
    part = _text_part(model)
    for name in _HOW_LOADED:
        if part is not model and hasattr(model, name):
            setattr(part, name, getattr(model, name))
    return part


def build_text_encoder(
    source: Source, config: PreTrainedConfig, options: LoadOptions
) -> PreTrainedModel:
    """Builds what ``load_text_encoder`` loads, without its weights; arguments and errors as there.

    On the default device, such as ``"meta"``, or as fake tensors.
    """
    loader, config, arguments = _loader(source, config, options)
    own = {name: arguments[name] for name in _BUILDING if arguments.get(name) is not None}
    build = getattr(loader, "from_config", None)
    if build is None:  # half of an encoder-decoder, whose class is known
        build = loader._from_config
    elif options.trust_remote_code:
        own["trust_remote_code"] = True
    return _text_part(load("encoder", source, lambda: build(config, **own)))


# Arguments of a loader that a model is built with, too.
_BUILDING = ("dtype", "attn_implementation", "add_pooling_layer")


def _loader(
    source: Source, config: PreTrainedConfig, options: LoadOptions
) -> tuple[Any, PreTrainedConfig, dict[str, Any]]:
    """Returns the class that loads a text encoder, its config, and its other arguments."""
    arguments = options.for_backbone("encoder", source, config)
    loader: Any
    has_class = type(config) in MODEL_MAPPING or type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING
    is_bridge = isinstance(config, BridgeConfig)
    if is_bridge or not (has_class or options.trust_remote_code):
        raise _no_encoder(source, config)
    if config.is_encoder_decoder and has_class:
        loader, config, arguments["key_mapping"] = _half(source, config)
    else:
        loader = AutoModel
        if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING:
            loader = AutoModelForTextEncoding
        if has_class:
            cls = _classes(config)[0]
            if "input_ids" not in inspect.signature(cls.forward).parameters:
                raise _no_encoder(source, config)
            if cls.config_class is not type(config):  # it is the text part of a larger model
                parts = "|".join(_TEXT_PARTS)
                arguments["key_mapping"] = {rf"^(model\.)?({parts})\.(model\.)?": ""}
            if "add_pooling_layer" in inspect.signature(cls.__init__).parameters:
                arguments["add_pooling_layer"] = False
    return loader, config, arguments


def _classes(config: PreTrainedConfig) -> tuple[type[PreTrainedModel], ...]:
    """Returns the classes that a config may stand for; nearly always one."""
    mapping = MODEL_FOR_TEXT_ENCODING_MAPPING
    found = mapping[type(config)] if type(config) in mapping else MODEL_MAPPING[type(config)]
    return found if isinstance(found, tuple) else (found,)


def _half(
    source: Source, config: PreTrainedConfig
) -> tuple[type[PreTrainedModel], PreTrainedConfig, dict[str, str]]:
    """Returns the encoder's class and config, and checkpoint keys → keys of the encoder alone."""

    def build() -> PreTrainedModel:
        with torch.device("meta"):
            return AutoModel.from_config(config)

    whole = load("encoder", source, build)
    half = whole.get_encoder()
    reads = inspect.signature(half.forward).parameters
    if half is whole or not isinstance(half, PreTrainedModel) or "input_ids" not in reads:
        raise _no_encoder(source, config)
    prefix = rf"^({whole.base_model_prefix}\.|model\.)?"
    table = next(
        name for name, module in half.named_modules() if module is half.get_input_embeddings()
    )
    keys = {prefix + r"(text_)?encoder\.": "", prefix + r"(shared|word_embeddings)\.": f"{table}."}
    return type(half), half.config, keys


def _text_part(model: PreTrainedModel) -> PreTrainedModel:
    """Returns the part of a multimodal model that reads text; of other models, the model."""
    for name in _TEXT_PARTS:
        part = getattr(model, name, None)
        if isinstance(part, PreTrainedModel):
            return _text_part(part)
    return model


def _no_encoder(source: Source, config: PreTrainedConfig) -> BackboneError:
    return BackboneError(
        f"{source.given!r} is a {config.model_type!r} model, which is not a supported text encoder",
        allowed=SUPPORTED,
    )
