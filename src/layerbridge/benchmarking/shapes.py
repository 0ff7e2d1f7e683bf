"""Models of published size with random weights, for measuring speed and memory: ``shape:NAME``.

``shapes.json`` has the configurations. Nothing is downloaded. The tokenizers know made-up words
only, so a text of N words is a text of N tokens.
"""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import count
from typing import Any, Literal

import tokenizers
import torch
from tokenizers import models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from layerbridge.errors import BackboneError
from layerbridge.models.backbone import freeze, resolve_dtype
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel

Kind = Literal["encoder", "language model", "translator"]

PREFIX = "shape:"

# The vocabulary of every synthetic tokenizer: words for texts, and the labels of benchmarks.
WORDS = tuple(f"w{number}" for number in range(4000))
LABELS = (
    *("Entailment", "Neutral", "Contradiction"),
    *("country", "language", "currency", "script", "unit", "zone"),
)

_AUTO_CLASSES: dict[Kind, Any] = {
    "encoder": AutoModelForTextEncoding,
    "language model": AutoModelForCausalLM,
    "translator": AutoModelForSeq2SeqLM,
}

# Text encoders that would otherwise get a pooling head, which is never used here.
_POOLING = ("bert", "xlm-roberta")


@dataclass(frozen=True)
class Shape:
    """A model without its weights.

    Args:
        name: what follows ``shape:``.
        kind: the class it is built as; an mT5 is built as its encoder only.
        settings: of its configuration, ``model_type`` among them.
        specials: of its tokenizer: ``ids`` of special tokens, their ``roles`` and, where it has
            them, the ``template`` around a text and the ``english`` language token.
    """

    name: str
    kind: Kind
    settings: dict[str, Any] = field(repr=False)
    specials: dict[str, Any] = field(repr=False)

    def config(self) -> PreTrainedConfig:
        """Returns a new configuration."""
        return AutoConfig.for_model(**copy.deepcopy(self.settings))


@cache
def _shapes() -> dict[str, Shape]:
    text = files("layerbridge.benchmarking").joinpath("shapes.json").read_text(encoding="utf-8")
    published = json.loads(text)
    return {
        name: Shape(name, one["kind"], one["config"], published["tokenizers"][one["tokenizer"]])
        for name, one in published["shapes"].items()
    }


def names(kind: Kind | None = None) -> list[str]:
    """Returns the names of all shapes, or of one kind."""
    return [shape.name for shape in _shapes().values() if kind in (None, shape.kind)]


def shape(name: str, kind: Kind | None = None) -> Shape:
    """Returns the shape called ``name``, with or without the prefix.

    Raises:
        BackboneError: the name is unknown, or the shape is not of this ``kind``.
    """
    name = name.removeprefix(PREFIX)
    known = _shapes().get(name)
    if known is None:
        raise BackboneError(f"unknown shape {name!r}", allowed=names(kind))
    if kind not in (None, known.kind):
        raise BackboneError(
            f"shape {name!r} is {_with_article(known.kind)}, not {_with_article(kind)}",
            allowed=names(kind),
        )
    return known


def encoder(name: str, *, max_text_tokens: int = 512, **options: Any) -> Encoder:
    """Returns an encoder with random weights, the same each time on the same kind of device.

    The options are those of ``build``.

    Raises:
        BackboneError: there is no such encoder.
        ConfigError: the dtype is unknown.
    """
    known = shape(name, "encoder")
    return Encoder(build(known, **options), tokenizer(known), max_text_tokens=max_text_tokens)


def language_model(name: str, **options: Any) -> LanguageModel:
    """Returns a causal language model with random weights; see ``encoder``."""
    known = shape(name, "language model")
    return LanguageModel(build(known, **options), tokenizer(known))


def translator(name: str, **options: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Returns a translation model into English with random weights, and its tokenizer."""
    known = shape(name, "translator")
    model = build(known, **options)
    model.generation_config.forced_bos_token_id = known.specials["ids"][known.specials["english"]]
    return freeze(model), tokenizer(known)


def text(words: int, seed: int) -> str:
    """Returns ``words`` made-up words, the same for the same seed."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def is_shape(source: str) -> bool:
    """Returns whether the name of a model is that of a shape."""
    return source.startswith(PREFIX)


def is_synthetic(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Returns whether this is a shape's tokenizer, which knows no real text."""
    return is_shape(str(tokenizer.name_or_path))


def build(
    shape: Shape,
    *,
    dtype: str = "auto",
    device: str = "cpu",
    attn_implementation: str | None = None,
) -> PreTrainedModel:
    """Returns the model, initialized by transformers on ``device`` and in ``dtype``.

    On the device ``"meta"`` it has no memory: enough to count parameters.
    """
    config = shape.config()
    config.name_or_path = PREFIX + shape.name
    precision, torch_device = resolve_dtype(dtype, device), torch.device(device)
    extra = {"add_pooling_layer": False} if config.model_type in _POOLING else {}
    with torch.random.fork_rng([torch_device] if torch_device.type == "cuda" else []), torch_device:
        torch.manual_seed(0)
        model = _AUTO_CLASSES[shape.kind].from_config(
            config, dtype=precision, attn_implementation=attn_implementation, **extra
        )
    if precision == torch.float16:
        # As ``from_pretrained`` does (``wo`` of mT5).
        for name, module in model.named_modules():
            if name.rpartition(".")[2] in model._keep_in_fp32_modules:
                module.to(torch.float32)
    return model


def tokenizer(shape: Shape) -> PreTrainedTokenizerFast:
    """Returns a whole-word tokenizer with the special tokens at their published ids."""
    ids, roles = shape.specials["ids"], shape.specials["roles"]
    template, english = shape.specials.get("template"), shape.specials.get("english")
    free = (number for number in count() if number not in ids.values())
    # Byte-level families have no unknown token; one more word stands in for it.
    unknown = roles.get("unk_token", "<unk>")
    words = (*WORDS, *LABELS) if unknown in ids else (*WORDS, *LABELS, unknown)
    vocabulary = dict(zip(words, free, strict=False)) | ids
    core = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if template is not None:
        core.post_processor = processors.TemplateProcessing(
            single=template,
            special_tokens=[(token, ids[token]) for token in template.split() if token != "$A"],
        )
    config = shape.config()
    limit = getattr(config, "max_position_embeddings", None)  # mT5 has none
    if config.model_type == "xlm-roberta":
        limit -= config.pad_token_id + 1  # positions start there
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        name_or_path=PREFIX + shape.name,
        extra_special_tokens=[english] if english else [],
        **({} if limit is None else {"model_max_length": limit}),
        **roles,
    )


def _with_article(kind: Kind | None) -> str:
    return f"an {kind}" if kind == "encoder" else f"a {kind}"
