"""Converts a Llama or Gemma 3 model from a quantized GGUF file to a Hugging Face folder.

transformers reads GGUF itself, but slowly, and into a model that cannot be saved because its config
still says that it is quantized. So the state dict is moved to a fresh model of the same config.

The weights are written as bfloat16, the dtype the models were published in. For the SmolLM2 of the
zoo that moves the next-token distribution by 7e-5 nats from the unpacked float32 values, and
changes no greedy answer.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerbridge.errors import ZooError
from layerbridge.hub.quiet import quiet_transformers
from layerbridge.hub.zoo.stable_json import write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CONTROL = 3  # GGUF's token type for tokens that text is never split into

# The config keys that determine the model. transformers would write more, but those differ between
# its versions and would change the fingerprint that a bridge remembers.
_COMMON_KEYS = (
    *("attention_bias", "attention_dropout", "bos_token_id", "eos_token_id", "head_dim"),
    *("hidden_size", "initializer_range", "intermediate_size", "max_position_embeddings"),
    *("model_type", "num_attention_heads", "num_hidden_layers", "num_key_value_heads"),
    *("pad_token_id", "rms_norm_eps", "rope_parameters", "tie_word_embeddings", "use_cache"),
    "vocab_size",
)
_CONFIG_KEYS = {
    "llama": [*_COMMON_KEYS, "hidden_act", "mlp_bias"],
    "gemma3_text": [
        *_COMMON_KEYS,
        *("attn_logit_softcapping", "final_logit_softcapping", "hidden_activation", "layer_types"),
        *("query_pre_attn_scalar", "sliding_window", "use_bidirectional_attention"),
    ],
}


def convert(members: Mapping[str, Path], folder: Path) -> None:
    """Writes config, weights, generation config and tokenizer to ``folder``.

    Args:
        members: one GGUF file, or its parts with numbered names.
        folder: the folder to write to.
    """
    parts = [members[name] for name in sorted(members)]
    source = parts[0].with_name("whole.gguf")
    with source.open("wb") as joined:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, joined)
    try:
        # One of the progress bars is tqdm's own and ignores the settings of transformers.
        with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
            config = _convert_model(source, folder)
            if config["model_type"] == "llama":
                settings = _convert_smollm_tokenizer(source, folder)
            else:
                settings = _convert_tokenizer(source, folder)
    finally:
        source.unlink()
    settings |= {
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": config["max_position_embeddings"],
        "tokenizer_class": "TokenizersBackend",
    }
    write_json(folder / "tokenizer_config.json", settings)


def _convert_model(source: Path, folder: Path) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    quantized = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    )
    known = quantized.config.to_dict()
    config = {key: known[key] for key in _CONFIG_KEYS[known["model_type"]]}
    # GGUF stores it as float32; the short decimal is meant.
    config["rms_norm_eps"] = float(f"{config['rms_norm_eps']:.6g}")
    model_class = type(quantized)
    model = model_class(model_class.config_class(**config))
    model.load_state_dict(quantized.state_dict())
    model.to(torch.bfloat16).save_pretrained(folder)
    config |= {"architectures": [model_class.__name__], "dtype": "bfloat16"}
    config |= {"transformers_version": "5.16.0"}  # the oldest supported, whichever runs now
    write_json(folder / "config.json", config)
    tokens = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_json(folder / "generation_config.json", tokens)
    return config


def _convert_tokenizer(source: Path, folder: Path) -> dict[str, Any]:
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        source.parent, gguf_file=source.name
    )
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    return {name: str(getattr(tokenizer, name)) for name in names}


def _convert_smollm_tokenizer(source: Path, folder: Path) -> dict[str, Any]:
    # Built from the metadata: versions of transformers differ in how they interpret it (one takes
    # the wrong end-of-text token), and none knows this kind of pre-tokenizer, which splits off
    # every digit and so keeps the spaces before it together.
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    reader = GGUFReader(source)

    def metadata(name: str) -> Any:
        field = reader.get_field(f"tokenizer.{name}")
        return None if field is None else field.contents()

    kind = (metadata("ggml.model"), metadata("ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise ZooError(f"the tokenizer of the GGUF file is of kind {kind}", allowed="gpt2, smollm")
    tokens: list[str] = metadata("ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in metadata("ggml.merges")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, token_type in zip(tokens, metadata("ggml.token_type"), strict=True)
            if token_type == _CONTROL
        ]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(metadata("chat_template"), encoding="utf-8")
    return {
        "bos_token": tokens[metadata("ggml.bos_token_id")],
        "eos_token": tokens[metadata("ggml.eos_token_id")],
        "pad_token": tokens[metadata("ggml.padding_token_id")],
        "unk_token": tokens[metadata("ggml.unknown_token_id")],
    }
