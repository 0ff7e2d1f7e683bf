"""Models of true size and random weights, to measure speed and memory with: ``shape:NAME``.

Built in memory from the public configuration of each model, without a download. The tokenizers
know made-up words only, so that a text of so many words is a text of so many tokens.
It knows nothing of what is measured.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, cast

import tokenizers
import torch
from tokenizers import models, pre_tokenizers, processors
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForTextEncoding,
    BertConfig,
    Gemma3TextConfig,
    LlamaConfig,
    M2M100Config,
    MT5Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    XLMRobertaConfig,
)

from layerbridge.errors import BackboneError
from layerbridge.models.backbone import freeze, resolve_dtype
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel

Kind = Literal["encoder", "language model", "translator"]

PREFIX = "shape:"

# What every synthetic tokenizer knows: words to make texts of, and the answers of benchmarks.
WORDS = tuple(f"w{number}" for number in range(4000))
LABELS = (
    *("Entailment", "Neutral", "Contradiction"),
    *("country", "language", "currency", "script", "unit", "zone"),
)

# Of every weight matrix; norms start at one and biases at zero.
STANDARD_DEVIATION = 0.02

# So many random numbers are drawn, and come again from the start when they are used up: drawing
# them all would take about a minute for 8 billion on a CPU. A prime, so that no two rows of a
# matrix are alike whatever its width, and no two tokens ever score the same.
DRAWN = 1_048_573

_AUTO_CLASSES: dict[Kind, Any] = {
    "encoder": AutoModelForTextEncoding,
    "language model": AutoModelForCausalLM,
    "translator": AutoModelForSeq2SeqLM,
}

# Text encoders that would build a pooling head over the first token, which nobody here reads.
_POOLING = ("bert", "xlm-roberta")


@dataclass(frozen=True)
class Specials:
    """The special tokens of a model, at their true ids.

    Args:
        ids: token → id.
        roles: what they are: ``bos_token``, ``eos_token``, ``pad_token``, ``unk_token``.
        template: what the tokenizer puts around a text ``$A``; None if nothing.
        english: the token that a translator begins English with.
    """

    ids: dict[str, int]
    roles: dict[str, str]
    template: str | None = None
    english: str | None = None


@dataclass(frozen=True)
class Shape:
    """A model without its weights.

    Args:
        name: what a user writes after ``shape:``.
        kind: what it is built as; of mT5, the encoder half alone.
        config: makes its configuration, a new one each time.
        specials: its tokenizer's.
    """

    name: str
    kind: Kind
    config: Callable[[], PreTrainedConfig] = field(repr=False, compare=False)
    specials: Specials = field(repr=False, compare=False)


# --- configurations, as published ---------------------------------------------------------------


def _mt5(width: int, ffn: int, layers: int, heads: int) -> Callable[[], PreTrainedConfig]:
    return lambda: MT5Config(
        vocab_size=250112,
        d_model=width,
        d_kv=64,
        d_ff=ffn,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=heads,
        relative_attention_num_buckets=32,
        relative_attention_max_distance=128,
        feed_forward_proj="gated-gelu",
        layer_norm_epsilon=1e-6,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )


def _xlm_roberta(
    width: int, ffn: int, layers: int, heads: int, vocabulary: int = 250002
) -> Callable[[], PreTrainedConfig]:
    return lambda: XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )


def _e5_small() -> PreTrainedConfig:
    return BertConfig(
        vocab_size=250037,
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=512,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        pad_token_id=0,
    )


def _llama3(
    width: int, ffn: int, layers: int, heads: int, *, factor: float, tied: bool
) -> Callable[[], PreTrainedConfig]:
    """Llama 3.1 and 3.2."""
    return lambda: LlamaConfig(
        vocab_size=128256,
        hidden_size=width,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=width // heads,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        tie_word_embeddings=tied,
        bos_token_id=128000,
        eos_token_id=128001,
    )


def _smollm2(
    width: int, ffn: int, layers: int, heads: int, *, kv_heads: int, theta: float
) -> Callable[[], PreTrainedConfig]:
    return lambda: LlamaConfig(
        vocab_size=49152,
        hidden_size=width,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=64,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )


def _qwen2_5() -> PreTrainedConfig:
    return Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
        bos_token_id=151643,
        eos_token_id=151643,
    )


def _gemma3() -> PreTrainedConfig:
    layers = 18
    return Gemma3TextConfig(
        vocab_size=262144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        query_pre_attn_scalar=256,
        max_position_embeddings=32768,
        sliding_window=512,
        # Every sixth layer sees everything.
        layer_types=[
            "sliding_attention" if layer % 6 else "full_attention" for layer in range(1, layers + 1)
        ],
        rms_norm_eps=1e-6,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
        },
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )


def _m2m100(
    vocabulary: int, layers: int, ffn: int, width: int = 1024, heads: int = 16
) -> Callable[[], PreTrainedConfig]:
    """M2M100 and NLLB-200, which differ in vocabulary and size only."""
    return lambda: M2M100Config(
        vocab_size=vocabulary,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=ffn,
        decoder_ffn_dim=ffn,
        activation_function="relu",
        max_position_embeddings=1024,
        scale_embedding=True,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        tie_word_embeddings=True,
    )


def _tiny_lm() -> PreTrainedConfig:
    return LlamaConfig(
        vocab_size=4096,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )


# --- tokenizers, as published but for their words -----------------------------------------------

_BART_ROLES = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
}
_BART_IDS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}

_MT5_SPECIALS = Specials(
    ids={"<pad>": 0, "</s>": 1, "<unk>": 2},
    roles={"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
    template="$A </s>",
)
# multilingual-e5-small is a BERT with the tokenizer of XLM-R.
_XLM_ROBERTA_SPECIALS = Specials(ids=_BART_IDS, roles=_BART_ROLES, template="<s> $A </s>")
# The tokenizers of language models add nothing by themselves here: callers place BOS.
_LLAMA3_SPECIALS = Specials(
    ids={"<|begin_of_text|>": 128000, "<|end_of_text|>": 128001},
    roles={"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
)
_SMOLLM2_SPECIALS = Specials(
    ids={"<|endoftext|>": 0},
    roles=dict.fromkeys(("bos_token", "eos_token"), "<|endoftext|>"),
)
_QWEN2_SPECIALS = Specials(
    ids={"<|endoftext|>": 151643},
    roles=dict.fromkeys(("eos_token", "pad_token"), "<|endoftext|>"),
)
_GEMMA3_SPECIALS = Specials(
    ids={"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3},
    roles={
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "bos_token": "<bos>",
        "unk_token": "<unk>",
    },
)
_TINY_LM_SPECIALS = Specials(
    ids={"<unk>": 0, "<s>": 1, "</s>": 2},
    roles={"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
)


def _translator_specials(english: str, number: int) -> Specials:
    """Every text is taken for English: which of its languages it is changes no time."""
    return Specials(
        ids=_BART_IDS | {english: number},
        roles=_BART_ROLES,
        template=f"{english} $A </s>",
        english=english,
    )


_NLLB_SPECIALS = _translator_specials("eng_Latn", 256047)

_GROUPS: tuple[tuple[Kind, Specials, dict[str, Callable[[], PreTrainedConfig]]], ...] = (
    (
        "encoder",
        _MT5_SPECIALS,
        {
            "mt5-small": _mt5(512, 1024, 8, 6),
            "mt5-base": _mt5(768, 2048, 12, 12),
            "mt5-large": _mt5(1024, 2816, 24, 16),
            "mt5-xl": _mt5(2048, 5120, 24, 32),
        },
    ),
    (
        "encoder",
        _XLM_ROBERTA_SPECIALS,
        {
            "xlm-roberta-base": _xlm_roberta(768, 3072, 12, 12),
            "xlm-roberta-large": _xlm_roberta(1024, 4096, 24, 16),
            "multilingual-e5-small": _e5_small,
            "multilingual-e5-large": _xlm_roberta(1024, 4096, 24, 16),
            "tiny-encoder": _xlm_roberta(32, 64, 3, 4, vocabulary=4096),
        },
    ),
    (
        "language model",
        _LLAMA3_SPECIALS,
        {
            "llama-3.2-1b": _llama3(2048, 8192, 16, 32, factor=32.0, tied=True),
            "llama-3.2-3b": _llama3(3072, 8192, 28, 24, factor=32.0, tied=True),
            "llama-3.1-8b": _llama3(4096, 14336, 32, 32, factor=8.0, tied=False),
        },
    ),
    (
        "language model",
        _SMOLLM2_SPECIALS,
        {
            "smollm2-135m": _smollm2(576, 1536, 30, 9, kv_heads=3, theta=100_000.0),
            "smollm2-360m": _smollm2(960, 2560, 32, 15, kv_heads=5, theta=100_000.0),
            "smollm2-1.7b": _smollm2(2048, 8192, 24, 32, kv_heads=32, theta=130_000.0),
        },
    ),
    ("language model", _QWEN2_SPECIALS, {"qwen2.5-0.5b": _qwen2_5}),
    ("language model", _GEMMA3_SPECIALS, {"gemma-3-270m": _gemma3}),
    ("language model", _TINY_LM_SPECIALS, {"tiny-lm": _tiny_lm}),
    (
        "translator",
        _NLLB_SPECIALS,
        {
            "nllb-600m": _m2m100(256206, 12, 4096),
            "nllb-1.3b": _m2m100(256206, 24, 8192),
        },
    ),
    (
        "translator",
        _translator_specials("__en__", 128022),
        {"m2m100-418m": _m2m100(128112, 12, 4096)},
    ),
    (
        "translator",
        _translator_specials("__en__", 4),
        {"tiny-translator": _m2m100(4096, 2, 64, width=32, heads=4)},
    ),
)
_SHAPES = {
    name: Shape(name, kind, config, specials)
    for kind, specials, configs in _GROUPS
    for name, config in configs.items()
}


# --- what others call ---------------------------------------------------------------------------


def names(kind: Kind | None = None) -> list[str]:
    """The names of all shapes, or of those of one kind."""
    return [known.name for known in _SHAPES.values() if kind in (None, known.kind)]


def shape(name: str, kind: Kind | None = None) -> Shape:
    """The shape called ``name``, without the prefix.

    Raises:
        BackboneError: there is none, or it is of another kind than ``kind``.
    """
    found = _SHAPES.get(name)
    if found is None:
        raise BackboneError(f"unknown shape {name!r}", allowed=names(kind))
    if kind not in (None, found.kind):
        raise BackboneError(
            f"shape {name!r} is {_a(found.kind)}, and {_a(kind)} is wanted",
            allowed=names(kind),
        )
    return found


def encoder(
    name: str,
    *,
    dtype: str = "auto",
    device: str = "cpu",
    attn_implementation: str | None = None,
    max_text_tokens: int = 512,
) -> Encoder:
    """An encoder of random weights, the same each time on the same kind of device.

    Args:
        name: a shape of this kind, without the prefix.
        dtype: as in ``LoadOptions``.
        device: where it is built: nothing is copied there.
        attn_implementation: as in transformers; None takes its default.
        max_text_tokens: as of ``Encoder``.

    Raises:
        BackboneError: there is no such encoder.
        ConfigError: there is no such dtype.
    """
    pair = _pair(shape(name, "encoder"), dtype, device, attn_implementation)
    return Encoder(*pair, max_text_tokens=max_text_tokens)


def language_model(
    name: str,
    *,
    dtype: str = "auto",
    device: str = "cpu",
    attn_implementation: str | None = None,
) -> LanguageModel:
    """A causal language model of random weights; arguments and errors as of ``encoder``."""
    return LanguageModel(*_pair(shape(name, "language model"), dtype, device, attn_implementation))


def translator(
    name: str,
    *,
    dtype: str = "auto",
    device: str = "cpu",
    attn_implementation: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A translator of random weights and its tokenizer; arguments and errors as of ``encoder``.

    Its ``generate`` begins with the English language token, as a translation into English does.
    """
    wanted = shape(name, "translator")
    model, its_tokenizer = _pair(wanted, dtype, device, attn_implementation)
    english = cast(str, wanted.specials.english)
    model.generation_config.forced_bos_token_id = wanted.specials.ids[english]
    return freeze(model), its_tokenizer


def text(words: int, seed: int) -> str:
    """So many made-up words, the same for the same seed; every shape's tokenizer knows them."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def is_synthetic(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it is a shape's tokenizer, which knows no real text."""
    return str(tokenizer.name_or_path).startswith(PREFIX)


# --- building -----------------------------------------------------------------------------------


def build(
    wanted: Shape,
    *,
    dtype: str = "auto",
    device: str = "cpu",
    attn_implementation: str | None = None,
) -> PreTrainedModel:
    """The bare model, its memory taken once, on ``device`` and in ``dtype``.

    On the device ``"meta"`` it has shapes and no memory: enough to count parameters.
    """
    config = wanted.config()
    config.name_or_path = PREFIX + wanted.name
    precision = resolve_dtype(dtype)
    extra = {"add_pooling_layer": False} if config.model_type in _POOLING else {}
    with torch.device("meta"):
        model = _AUTO_CLASSES[wanted.kind].from_config(
            config, dtype=precision, attn_implementation=attn_implementation, **extra
        )
    if precision == torch.float16:
        _keep_float32(model)
    if torch.device(device).type != "meta":
        _take_memory(model, torch.device(device))
        _fill(model, torch.device(device))
    return model


def tokenizer(wanted: Shape) -> PreTrainedTokenizerFast:
    """Whole words only; special tokens at their true ids, words at the lowest that are free."""
    specials = wanted.specials
    taken = set(specials.ids.values())
    free = (number for number in count() if number not in taken)
    # Byte-level families know every text and have no such token; here one more word stands for it.
    unknown = specials.roles.get("unk_token", "<unk>")
    words = (*WORDS, *LABELS) if unknown in specials.ids else (*WORDS, *LABELS, unknown)
    vocabulary = dict(zip(words, free, strict=False)) | specials.ids
    core = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if specials.template is not None:
        around = [token for token in specials.template.split() if token != "$A"]
        core.post_processor = processors.TemplateProcessing(
            single=specials.template,
            special_tokens=[(token, specials.ids[token]) for token in around],
        )
    english = [specials.english] if specials.english else []
    limit = _limit(wanted.config())
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        name_or_path=PREFIX + wanted.name,
        extra_special_tokens=english,
        **({} if limit is None else {"model_max_length": limit}),
        **specials.roles,
    )


def _pair(
    wanted: Shape, dtype: str, device: str, attn_implementation: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model = build(wanted, dtype=dtype, device=device, attn_implementation=attn_implementation)
    return model, tokenizer(wanted)


def _keep_float32(model: PreTrainedModel) -> None:
    """What ``from_pretrained`` leaves in float32 when the rest is float16 (of mT5: ``wo``)."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in model._keep_in_fp32_modules:
            module.to(torch.float32)


def _take_memory(model: nn.Module, device: torch.device) -> None:
    """Memory of unknown content for each tensor; what was shared stays shared.

    ``to_empty`` would part a tied head from its embeddings, and take the largest matrix twice.
    """
    parameters: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in parameters:
                empty = torch.empty_like(parameter, device=device)
                parameters[id(parameter)] = nn.Parameter(empty, requires_grad=False)
            module._parameters[name] = parameters[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty_like(buffer, device=device)


@torch.no_grad()
def _fill(model: PreTrainedModel, device: torch.device) -> None:
    """Random matrices; all else as transformers starts it: norms, biases, rotary frequencies.

    The mark is how ``from_pretrained`` says which tensors came out of a file, so that
    ``initialize_weights`` does the others only, tables that no file holds among them.
    """
    generator = torch.Generator(device=device).manual_seed(0)
    drawn = torch.empty(DRAWN, device=device)
    drawn.normal_(0.0, STANDARD_DEVIATION, generator=generator)
    start = 0
    for parameter in model.parameters():
        if parameter.ndim > 1:
            rest = parameter.view(-1)
            while len(rest):
                piece = drawn[start : start + len(rest)]
                rest[: len(piece)] = piece
                rest = rest[len(piece) :]
                start = (start + len(piece)) % DRAWN
            cast(Any, parameter)._is_hf_initialized = True
    model.initialize_weights()


def _limit(config: PreTrainedConfig) -> int | None:
    """How many tokens the model reads; None where nothing bounds it, as in mT5."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if config.model_type == "xlm-roberta" and positions is not None:
        return positions - config.pad_token_id - 1  # positions are counted from there
    return positions


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind == "encoder" else f"a {kind}"
