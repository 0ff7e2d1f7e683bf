"""A Gemma 3 text model from a quantised GGUF file in numbered parts: unpacked once.

As ``gguf.py`` does with Llama: the state dict moves to a fresh model of the same config, so that
every later load is an ordinary one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from layerbridge.hub.zoo.gguf import quiet, unpack, write_json

_FILE = "whole.gguf"

# What a Gemma 3 config means; see ``gguf.py``.
_CONFIG_KEYS = (
    "attention_bias",
    "attention_dropout",
    "attn_logit_softcapping",
    "bos_token_id",
    "eos_token_id",
    "final_logit_softcapping",
    "head_dim",
    "hidden_activation",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "layer_types",
    "max_position_embeddings",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "query_pre_attn_scalar",
    "rms_norm_eps",
    "rope_parameters",
    "sliding_window",
    "tie_word_embeddings",
    "use_bidirectional_attention",
    "use_cache",
    "vocab_size",
)


def convert(members: Mapping[str, Path], folder: Path) -> None:
    """Write config, weights, generation config and tokenizer into ``folder``."""
    from transformers import Gemma3ForCausalLM

    parts = [members[name] for name in sorted(members)]
    whole = parts[0].with_name(_FILE)
    try:
        _join(parts, whole)
        with quiet():
            config = unpack(whole, folder, Gemma3ForCausalLM, _CONFIG_KEYS)
            _convert_tokenizer(whole, folder, config["max_position_embeddings"])
    finally:
        whole.unlink(missing_ok=True)


def _join(parts: list[Path], whole: Path) -> None:
    with whole.open("wb") as out:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, out)


def _convert_tokenizer(source: Path, folder: Path, longest: int) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    settings = {
        **{name: str(getattr(tokenizer, name)) for name in names},
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": longest,
        "tokenizer_class": "TokenizersBackend",
    }
    write_json(folder / "tokenizer_config.json", settings)
