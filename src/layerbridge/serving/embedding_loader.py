"""Loading a language model's input embeddings alone, for an engine that has the rest of it.

The result makes LM input and reads none. Legend: D LM width, V vocabulary.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from layerbridge.errors import BackboneError
from layerbridge.hub.sources import Source
from layerbridge.models.backbone import (
    LoadOptions,
    load,
    load_tokenizer,
    load_weights,
)
from layerbridge.models.language_model import LanguageModel, causal_config


def load_embeddings(source: Source, options: LoadOptions | None = None) -> LanguageModel:
    """Loads the tokenizer and the input embeddings [V, D] of the language model at ``source``.

    Raises:
        BackboneError: as ``LanguageModel.load``.
    """
    options = (options or LoadOptions()).in_dtype()
    config = causal_config(source, options)
    model = load("language model", source, lambda: _embeddings_only(source, config, options))
    tokenizer = load_tokenizer("language model", source, options)
    return LanguageModel(model, tokenizer, has_body=False, source=source)


def _embeddings_only(
    source: Source, config: PreTrainedConfig, options: LoadOptions
) -> PreTrainedModel:
    shards = _shards(source)
    if shards is None:
        if not options.allow_pickle:
            raise OSError("no file named model.safetensors")
        arguments = options.for_transformers(source)
        model = load_weights("language model", source, AutoModelForCausalLM, config, arguments)
        return _strip(model)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=options.torch_dtype,
            trust_remote_code=options.trust_remote_code,
        )
    with suppress(OSError):  # as in from_pretrained: not every model has this file
        model.generation_config = GenerationConfig.from_pretrained(
            source.path, revision=source.revision or "main"
        )
    embeddings = model.get_input_embeddings()
    stored = _read_embeddings(model, shards, source)
    weight = nn.Parameter(stored.to(embeddings.weight.dtype), requires_grad=False)
    weight._is_hf_initialized = True  # type: ignore[attr-defined]
    embeddings.to_empty(device="cpu")
    embeddings.weight = weight
    model._init_weights(embeddings)  # buffers no file has, such as Gemma's embedding scale
    return _strip(model)


def _shards(source: Source) -> dict[str, str] | None:
    """Maps each tensor to its safetensors file; None if there is no such file."""
    whole = _file(source, SAFE_WEIGHTS_NAME)
    if whole is not None:
        with safe_open(whole, "pt") as file:
            return dict.fromkeys(file.keys(), SAFE_WEIGHTS_NAME)
    index = _file(source, SAFE_WEIGHTS_INDEX_NAME)
    return None if index is None else json.loads(Path(index).read_text())["weight_map"]


def _file(source: Source, name: str) -> str | None:
    return cached_file(
        source.path,
        name,
        revision=source.revision or "main",
        _raise_exceptions_for_missing_entries=False,
    )


def _read_embeddings(
    model: PreTrainedModel, shards: dict[str, str], source: Source
) -> Float[Tensor, "V D"]:
    embeddings = model.get_input_embeddings()
    expected = f"{_path(model, embeddings)}.weight"
    # A checkpoint may leave out the base model's prefix, or be part of a larger model.
    ending = "." + ".".join(expected.split(".")[-2:])
    names = [expected, *sorted(name for name in shards if f".{name}".endswith(ending))]
    if model.config.get_text_config().tie_word_embeddings:
        names.append(f"{_path(model, model.get_output_embeddings())}.weight")
    for name in names:
        if name not in shards:
            continue
        path = _file(source, shards[name])
        if path is None:
            raise OSError(f"no file named {shards[name]}")
        with safe_open(path, "pt") as file:
            if file.get_slice(name).get_shape() == list(embeddings.weight.shape):
                return file.get_tensor(name)
    raise BackboneError(
        f"the language model {source.given!r} lacks weights: {expected!r}",
        hint="use a complete checkpoint of this architecture",
    )


def _path(model: nn.Module, module: nn.Module) -> str:
    return next(name for name, other in model.named_modules() if other is module)


def _strip(model: PreTrainedModel) -> PreTrainedModel:
    """Removes everything but the input embeddings, in place."""
    holder: nn.Module = model
    for name in _path(model, model.get_input_embeddings()).split("."):
        for other in [child for child, _ in holder.named_children() if child != name]:
            setattr(holder, other, nn.Identity())
        for other in [*holder._parameters, *holder._buffers]:
            delattr(holder, other)
        holder = holder.get_submodule(name)
    return model
