"""A Llama model from a quantised GGUF file: unpacked once into an ordinary Hugging Face folder.

transformers reads GGUF itself, but slowly, loudly, and into a model that refuses to be saved
because its config still says that it is quantised. So the state dict moves to a fresh model of the
same config, and every later load is an ordinary one.

The weights are written as bfloat16, in which the model was published. On the real model that moves
the next-token distribution by 7e-5 nats from the unpacked float32 values, and no greedy answer.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerbridge.errors import ZooError
from layerbridge.hub.quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CONTROL = 3  # the token type, in GGUF, of tokens that no text is split into

# What a Llama config means; the rest of what transformers would write differs between its versions
# and would change the fingerprint that a bridge remembers.
_CONFIG_KEYS = (
    "attention_bias",
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "mlp_bias",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rms_norm_eps",
    "rope_parameters",
    "tie_word_embeddings",
    "use_cache",
    "vocab_size",
)


def convert(members: Mapping[str, Path], folder: Path) -> None:
    """Write config, weights, generation config and tokenizer into ``folder``."""
    from transformers import LlamaForCausalLM

    source = next(path for name, path in members.items() if name.endswith(".gguf"))
    with quiet():
        config = unpack(source, folder, LlamaForCausalLM, _CONFIG_KEYS)
        _convert_tokenizer(source, folder, config["max_position_embeddings"])


def unpack(
    source: Path, folder: Path, made: type[PreTrainedModel], keys: Sequence[str]
) -> dict[str, Any]:
    """Write config, generation config and weights, as bfloat16, of a model of this class.

    Args:
        source: the GGUF file.
        folder: to write to.
        made: the model's class.
        keys: what its config means.

    Returns:
        The config.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quantised = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    )
    assert isinstance(quantised, made), f"{source.name} is no {made.__name__}"
    known = quantised.config.to_dict()
    config = {key: known[key] for key in keys}
    # GGUF keeps it as float32; the short decimal is meant.
    config["rms_norm_eps"] = float(f"{config['rms_norm_eps']:.6g}")
    assert made.config_class is not None
    model = made(made.config_class(**config))
    model.load_state_dict(quantised.state_dict())
    model.to(torch.bfloat16).save_pretrained(folder)
    config |= {"architectures": [made.__name__], "dtype": "bfloat16"}
    config |= {"transformers_version": "5.16.0"}  # the oldest we support, whichever runs now
    write_json(folder / "config.json", config)
    tokens = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_json(folder / "generation_config.json", tokens)
    return config


def _convert_tokenizer(source: Path, folder: Path, longest: int) -> None:
    # Built from the file's own facts: the versions of transformers differ in what they make of
    # them (one takes the wrong end-of-text token), and none knows this kind of pre-tokenizer, where
    # every digit stands alone and so the spaces before it stay together.
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    reader = GGUFReader(source)

    def fact(name: str) -> Any:
        field = reader.get_field(f"tokenizer.{name}")
        return None if field is None else field.contents()

    kind = (fact("ggml.model"), fact("ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise ZooError(f"the tokenizer of {source.name} is of kind {kind}", allowed="gpt2, smollm")
    tokens: list[str] = fact("ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in fact("ggml.merges")]
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
            for token, what in zip(tokens, fact("ggml.token_type"), strict=True)
            if what == _CONTROL
        ]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(fact("chat_template"), encoding="utf-8")
    settings = {
        "bos_token": tokens[fact("ggml.bos_token_id")],
        "clean_up_tokenization_spaces": False,
        "eos_token": tokens[fact("ggml.eos_token_id")],
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": longest,
        "pad_token": tokens[fact("ggml.padding_token_id")],
        "tokenizer_class": "TokenizersBackend",
        "unk_token": tokens[fact("ggml.unknown_token_id")],
    }
    write_json(folder / "tokenizer_config.json", settings)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and warnings to itself: they speak of the GGUF file, not of ours."""
    # One of the bars is tqdm's own and heeds no setting.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        yield


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes it so that the same content is the same bytes."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
