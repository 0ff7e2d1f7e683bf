"""A tiny random model of nearly every family that transformers has, for the matrix test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_MAPPING,
)

import tiny

VOCABULARY = 384
LAYERS, WIDTH = 3, 32

# What configs call their sizes; each takes those it knows.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "emb_dim", "lru_width"), WIDTH),
    **dict.fromkeys(("attention_hidden_size", "word_embed_proj_dim", "embedding_dim"), WIDTH),
    **dict.fromkeys(("intermediate_size", "d_ff", "ffn_dim", "ffn_hidden_size", "n_inner"), 64),
    **dict.fromkeys(("d_inner", "intermediate_dim", "encoder_ffn_dim", "decoder_ffn_dim"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), LAYERS),
    **dict.fromkeys(("encoder_layers", "num_encoder_layers"), LAYERS),
    **dict.fromkeys(("decoder_layers", "num_decoder_layers"), LAYERS + 1),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("head_dim", "d_kv", "query_pre_attn_scalar"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "sliding_window"), 512),
    **dict.fromkeys(("attention_window_size",), 512),
    **dict.fromkeys(("initializer_range", "init_std", "embed_init_std"), 0.3),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "top_k_experts"), 2),
    **dict.fromkeys(("encoder_sparse_step", "decoder_sparse_step", "expand", "mamba_expand"), 2),
    **dict.fromkeys(("mamba_d_state", "state_size", "relative_attention_num_buckets"), 8),
    **dict.fromkeys(("mamba_dt_rank", "time_step_rank"), 4),
    **dict.fromkeys(("n_groups", "num_global_layers"), 1),
    "num_key_value_heads": 2,
    "embedding_size": 16,
    "initializer_factor": 1.0,
    "relative_attention_max_distance": 16,
    "entity_vocab_size": 8,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
SIGLIP = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
LATENT = {
    "num_key_value_heads": 4,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "n_group": 1,
    "topk_group": 1,
}
SSM = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1}
ROTARY = {"rotary_dim": 4}
FALCON_H1 = {**SSM, "mamba_d_ssm": 64, "embedding_multiplier": 3.0}
SHARED = {
    "num_kv_shared_layers": 0,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
}
JAMBA = {
    "num_hidden_layers": 4,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "use_mamba_kernels": False,
}
ZAMBA = {
    "attention_hidden_size": 64,
    "num_key_value_heads": 4,
    "num_hidden_layers": 4,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "use_mamba_kernels": False,
}
HYBRID = {"num_hidden_layers": 4}  # every fourth layer has attention


READ = "cannot read a short text"
EMBEDDINGS = "is not the output of its embeddings"
PADDING = "lets padding into the states of a text"
AHEAD = "reads ahead"
SOFT = "cannot read embeddings, which soft prompts are"
OTHERWISE = "answers differently to token ids and to their embeddings"
NO_LM = "not a causal language model"


@dataclass(frozen=True)
class Family:
    """One row of the matrix.

    Args:
        kind: transformers' model type.
        settings: of the config, beside SIZES, or a function that makes the config.
        cls: that is saved; None takes the usual one for the role.
        expected: ``"right"``, or what the message of a refusal says; None takes either, as long
            as nothing is wrong.
        core: tested in every run.
        name: where one type has several rows.
    """

    kind: str
    settings: dict[str, Any] | Callable[[], transformers.PreTrainedConfig] = field(
        default_factory=dict
    )
    cls: str | None = None
    expected: str | None = None
    core: bool = False
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.kind

    def config(self) -> transformers.PreTrainedConfig:
        if callable(self.settings):
            return self.settings()
        return sized(CONFIG_MAPPING[self.kind], **self.settings)

    def write(self, folder: Path, *, causal: bool) -> Path:
        """A folder with a random model and its tokenizer."""
        config = self.config()
        cls = self._class(config, causal)
        with torch.device("meta"):
            size = sum(p.numel() for p in cls(config).parameters())
        if size > 2e7:
            raise ValueError(f"{size} parameters are not tiny")
        with torch.random.fork_rng():
            torch.manual_seed(sum(self.kind.encode()))
            model = cls(config)
            tokenizer = tiny.unigram(tiny.XLMR_SPECIALS, "<s> $A </s>")
            assert len(tokenizer) <= VOCABULARY
            tokenizer.model_max_length = 500
            tiny.save(model, tokenizer, folder)
        return folder

    def _class(self, config: transformers.PreTrainedConfig, causal: bool) -> Any:
        if self.cls is not None:
            return getattr(transformers, self.cls)
        mappings = [MODEL_FOR_CAUSAL_LM_MAPPING]
        if not causal:
            mappings = [MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING]
            mappings += [MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING]
        found = next(mapping[type(config)] for mapping in mappings if type(config) in mapping)
        return found[0] if isinstance(found, tuple) else found


def sized(cls: Any, **settings: Any) -> transformers.PreTrainedConfig:
    """A config of that class with as many of SIZES as it knows."""
    names = {f.name for f in dataclasses.fields(cls)}
    aliases = getattr(cls, "attribute_map", {})
    sizes = {
        name: value
        for name, value in SIZES.items()
        if name in names or (name in aliases and aliases[name] not in SIZES)
    }
    return cls(**{**sizes, **settings})


def _t5gemma() -> transformers.PreTrainedConfig:
    from transformers.models.t5gemma.configuration_t5gemma import T5GemmaModuleConfig as Module

    encoder = sized(Module, hidden_size=24).to_dict()
    decoder = sized(Module, num_hidden_layers=4, is_decoder=True).to_dict()
    return transformers.T5GemmaConfig(encoder=encoder, decoder=decoder, vocab_size=VOCABULARY)


def _t5gemma2() -> transformers.PreTrainedConfig:
    from transformers.models.t5gemma2 import configuration_t5gemma2 as module

    text = sized(module.T5Gemma2TextConfig).to_dict()
    encoder = {"text_config": text, "vision_config": SIGLIP, "vocab_size": VOCABULARY}
    decoder = sized(module.T5Gemma2DecoderConfig, num_hidden_layers=4).to_dict()
    return transformers.T5Gemma2Config(encoder=encoder, decoder=decoder, image_token_index=300)


def _gemma3() -> transformers.PreTrainedConfig:
    text = sized(transformers.Gemma3TextConfig).to_dict()
    return transformers.Gemma3Config(text_config=text, vision_config=SIGLIP, image_token_id=300)


def _llama4() -> transformers.PreTrainedConfig:
    text = sized(transformers.Llama4TextConfig, intermediate_size_mlp=64).to_dict()
    vision = {**SIGLIP, "vision_output_dim": 16, "projector_input_dim": 16}
    return transformers.Llama4Config(text_config=text, vision_config=vision)


def _seamless() -> transformers.PreTrainedConfig:
    speech = ("speech_encoder", "t2u_encoder", "t2u_decoder")
    names = {f"{name}_layers": 1 for name in speech}
    names |= {f"{name}_attention_heads": 4 for name in speech}
    names |= {"speech_encoder_intermediate_size": 16, "t2u_vocab_size": 40}
    names |= {"t2u_encoder_ffn_dim": 16, "t2u_decoder_ffn_dim": 16, "char_vocab_size": 40}
    return sized(transformers.SeamlessM4Tv2Config, **names, tie_word_embeddings=True)


ENCODERS = [
    Family("modernbert", expected="right", core=True),
    Family("eurobert", expected="right", core=True),
    Family("gte", expected="right", core=True),
    Family("nomic_bert", expected="right", core=True),
    Family("jina_embeddings_v3", expected="right"),
    Family("mpnet", {"relative_attention_num_buckets": 32}, expected="right", core=True),
    Family("luke", expected="right"),
    Family("mbart", expected="right", core=True),
    Family("bart", expected="right"),
    Family("nllb-moe", expected="right", core=True),
    Family("seamless_m4t_v2", _seamless, "SeamlessM4Tv2ForTextToText", "right"),
    Family("t5gemma", _t5gemma, expected="right", core=True),
    Family("t5gemma2", _t5gemma2, expected="right", core=True),
    Family("rembert", expected="right"),
    Family("albert", expected="right", core=True),
    Family("longformer", expected="right"),
    Family("camembert", expected="right"),
    Family("ernie", expected="right"),
    Family("megatron-bert", expected="right"),
    Family("xmod", {"default_language": "en_XX"}, expected="right"),
    Family("xlm", expected="right", core=True),
    Family("flaubert", expected="right"),
    Family("gemma3", _gemma3, expected="right", core=True),
    Family("llama4", _llama4, "Llama4ForConditionalGeneration", "right"),
    Family("qwen3", expected="right"),
    Family("gpt_neox", expected="right"),
    Family("opt", {"word_embed_proj_dim": 16, "do_layer_norm_before": False}, name="opt-350m"),
    Family("mamba", expected=EMBEDDINGS, core=True),
    Family("mamba2", {"num_heads": 8, "head_dim": 8}, expected=EMBEDDINGS),
    Family("falcon_mamba", expected=EMBEDDINGS),
    Family("rwkv", expected=EMBEDDINGS),
    Family("nystromformer", expected=PADDING),
    Family("convbert", expected=PADDING, core=True),
    Family("fnet", expected=PADDING, core=True),
    Family("gemma3n_text", SHARED, expected="have the shapes"),
    Family("whisper", expected="not a supported text encoder"),
    Family("xmod", expected="Input language unknown", name="xmod without a language"),
]
LANGUAGE_MODELS = [
    Family("qwen3", expected="right", core=True),
    Family("gemma3", _gemma3, expected="right", core=True),
    Family("gemma3_text", expected="right"),
    Family("llama4", _llama4, "Llama4ForConditionalGeneration", "right"),
    Family(
        "falcon_h1", {**SSM, "mamba_d_ssm": 64, "embedding_multiplier": 3.0}, None, "right", True
    ),
    Family("jamba", JAMBA, expected="right", core=True),
    Family("bamba", {**SSM, "attn_layer_indices": [1]}, expected="right", core=True),
    Family("zamba", ZAMBA, expected="right"),
    Family("mamba", expected="right", core=True),
    Family("mamba2", {"num_heads": 8, "head_dim": 8}, expected="right"),
    Family("falcon_mamba", expected="right"),
    Family("rwkv", expected="right", core=True),
    Family("recurrent_gemma", expected="right"),
    Family("openai-gpt", expected="right"),
    Family("bert", {"is_decoder": True}, expected="right", name="bert decoder"),
    Family("opt", {"word_embed_proj_dim": 16, "do_layer_norm_before": False}, None, "right"),
    Family("camembert", expected=NO_LM),
    Family("ernie", expected=NO_LM),
    Family("xlnet", expected=AHEAD, core=True),
    Family(
        "gemma3_text",
        {"use_bidirectional_attention": True},
        expected=AHEAD,
        core=True,
        name="embeddinggemma",
    ),
    Family("gemma3n_text", SHARED, expected=OTHERWISE, core=True),
    Family("gemma4_text", expected=SOFT, core=True),
    Family("gemma4_text", {"hidden_size_per_layer_input": 0}, None, "right", name="gemma4 dense"),
    Family("ctrl", expected="overwrites the embeddings"),
]
# What the other types need.
SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "minicpm3", "youtu"), LATENT),
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "kimi_linear"), HYBRID),
    **dict.fromkeys(("gptj", "codegen"), ROTARY),
    "granitemoehybrid": {**SSM, "layer_types": ["mamba", "attention", "mamba"]},
    "gpt_neo": {"attention_types": [[["global"], LAYERS]]},
    "squeezebert": {"embedding_size": WIDTH},
    "seamless_m4t": {"tie_word_embeddings": True},
}


def others(listed: list[Family], *, causal: bool) -> list[Family]:
    """A family for every other model type: causal models, or masked ones and encoder-decoders."""
    mappings = [MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING]
    if causal:
        mappings = [MODEL_FOR_CAUSAL_LM_MAPPING]
    kinds = {config.model_type for mapping in mappings for config in mapping}
    kinds = kinds & set(CONFIG_MAPPING) - {family.kind for family in listed if not family.name}
    return [Family(kind, SETTINGS.get(kind, {})) for kind in sorted(kinds)]
