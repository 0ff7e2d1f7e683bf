"""Converts multilingual-e5-small from its 4-bit single file to a Hugging Face folder.

The file (little-endian) has a header, the vocabulary, a normalizer, and a directory of tensors.
Matrices are Q4_0: blocks of 32 values, each a float16 scale and 16 bytes; the low nibbles are the
first 16 values, the high nibbles the next 16, and a nibble n stands for (n - 8) * scale.
The weights are written as float32, in which a float16 times a small integer is exact, so nothing
that the 4-bit file still had is lost.

The file has no pooler, and hidden states need none. AutoModel builds one anyway, initializes it at
random and warns, so the folder has a pooler of zeros.

Legend: V vocabulary, P positions, T token types, E width, F width of the feed-forward layer.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layerbridge.errors import ZooError
from layerbridge.hub.zoo.stable_json import write_json

BLOCK = 32
_BLOCK_BYTES = 2 + BLOCK // 2
_TENSOR_HEADER = struct.Struct("<BIQQ")


@dataclass(frozen=True)
class Contents:
    """The unpacked file.

    Attributes:
        config: of a ``BertModel``.
        pieces: the vocabulary, in the order of its ids.
        tensors: by the names that ``BertModel`` uses.
    """

    config: dict[str, Any]
    pieces: list[str]
    tensors: dict[str, np.ndarray]


def convert(members: Mapping[str, Path], folder: Path) -> None:
    """Writes config, weights and tokenizer to ``folder``."""
    from safetensors.numpy import save_file

    weights = next(path for name, path in members.items() if name.endswith(".bin"))
    contents = read(weights.read_bytes())
    tokenizer = members["tokenizer.json"].read_bytes()
    # The tokenizer comes from another package: every piece must have the id that the weights mean.
    if [piece for piece, _ in json.loads(tokenizer)["model"]["vocab"]] != contents.pieces:
        raise ZooError("tokenizer.json and the encoder file have different vocabularies")
    width = contents.config["hidden_size"]
    pooler = {
        "pooler.dense.weight": np.zeros((width, width), np.float32),
        "pooler.dense.bias": np.zeros(width, np.float32),
    }
    save_file(contents.tensors | pooler, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", contents.config)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    write_json(folder / "tokenizer_config.json", _tokenizer_config(contents))


def read(data: bytes) -> Contents:
    """Unpacks the file.

    Raises:
        ZooError: it has another format, or its tensors are not those of a BERT encoder.
    """
    if data[:4] != b"E5S1":
        raise ZooError(f"the encoder file begins with {data[:4]!r}", allowed="b'E5S1'")
    version, e, layers, heads, f, v, p, t, norm_eps, block = struct.unpack_from("<I7ifi", data, 4)
    if (version, block) != (1, BLOCK):
        raise ZooError(
            f"the encoder file has version {version} and blocks of {block}",
            allowed=f"version 1 and blocks of {BLOCK}",
        )
    pieces, (bos, eos, pad, _), offset = _read_vocabulary(data, 44)
    # Not written by transformers, so that the folder's content, and with it the fingerprint that a
    # bridge remembers, does not depend on the version of transformers that converted it.
    config = {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "bos_token_id": bos,
        "classifier_dropout": None,
        "dtype": "float32",
        "eos_token_id": eos,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": e,
        "initializer_range": 0.02,
        "intermediate_size": f,
        # The float32 of 1e-12 is 9.99…e-13 as a Python number; the short decimal is intended.
        "layer_norm_eps": float(f"{norm_eps:.6g}"),
        "max_position_embeddings": p,
        "model_type": "bert",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": pad,
        # The oldest supported version. Without it, some versions warn of an old Mistral tokenizer.
        "transformers_version": "5.16.0",
        "type_vocab_size": t,
        "vocab_size": v,
    }
    stored = _read_tensors(data, offset)
    tensors: dict[str, np.ndarray] = {}
    for name, (stored_name, dims) in _layout(config).items():
        values = stored.pop(stored_name, None)
        if values is None or values.size != int(np.prod(dims)):
            problem = "is missing" if values is None else f"has {values.size} values"
            raise ZooError(
                f"tensor {stored_name} of the encoder file {problem}", allowed=f"shape {dims}"
            )
        tensors[name] = values.reshape(dims)
    if stored:
        raise ZooError(f"unexpected tensors in the encoder file: {', '.join(stored)}")
    return Contents(config, pieces, tensors)


def unpack_q4_0(data: bytes, offset: int, count: int) -> np.ndarray:
    """Returns ``count`` values of the Q4_0 blocks at ``offset``, as float32."""
    blocks = count // BLOCK
    raw = np.frombuffer(data, np.uint8, blocks * _BLOCK_BYTES, offset).reshape(blocks, _BLOCK_BYTES)
    scale = raw[:, :2].copy().view("<f2").astype(np.float32)  # [blocks, 1]
    nibbles = np.concatenate([raw[:, 2:] & 0xF, raw[:, 2:] >> 4], axis=1)  # [blocks, 32]
    return ((nibbles.astype(np.float32) - 8.0) * scale).reshape(-1)


def _read_vocabulary(data: bytes, offset: int) -> tuple[list[str], tuple[int, ...], int]:
    count, *specials, blob_bytes = struct.unpack_from("<5iQ", data, offset)
    offset += 28
    bounds = np.frombuffer(data, "<u4", count + 1, offset).tolist()
    offset += 4 * (count + 1) + 4 * count  # the scores are in tokenizer.json too
    blob = data[offset : offset + blob_bytes]
    pieces = [blob[start:end].decode() for start, end in itertools.pairwise(bounds)]
    offset += blob_bytes
    (normalizer_bytes,) = struct.unpack_from("<I", data, offset + 4)
    return pieces, tuple(specials), offset + 8 + normalizer_bytes


def _read_tensors(data: bytes, offset: int) -> dict[str, np.ndarray]:
    (count,) = struct.unpack_from("<i", data, offset)
    offset += 4
    tensors: dict[str, np.ndarray] = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, offset)
        name = data[offset + 2 : offset + 2 + length].decode()
        offset += 2 + length
        kind, elements, where, _ = _TENSOR_HEADER.unpack_from(data, offset)
        offset += _TENSOR_HEADER.size
        if kind == 0:
            tensors[name] = np.frombuffer(data, "<f4", elements, where).astype(np.float32)
        elif kind == 1:
            tensors[name] = unpack_q4_0(data, where, elements)
        else:
            raise ZooError(f"tensor {name} of the encoder file has type {kind}", allowed="0, 1")
    return tensors


def _layout(config: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name in ``BertModel`` → name in the file and shape."""
    e, f = config["hidden_size"], config["intermediate_size"]
    layout: dict[str, tuple[str, tuple[int, ...]]] = {
        "embeddings.word_embeddings.weight": ("emb.word", (config["vocab_size"], e)),
        "embeddings.position_embeddings.weight": (
            "emb.pos",
            (config["max_position_embeddings"], e),
        ),
        "embeddings.token_type_embeddings.weight": ("emb.type", (config["type_vocab_size"], e)),
        "embeddings.LayerNorm.weight": ("emb.ln.w", (e,)),
        "embeddings.LayerNorm.bias": ("emb.ln.b", (e,)),
    }
    linears = {
        "attention.self.query": ("q", e, e),
        "attention.self.key": ("k", e, e),
        "attention.self.value": ("v", e, e),
        "attention.output.dense": ("ao", e, e),
        "intermediate.dense": ("fi", f, e),
        "output.dense": ("fo", e, f),
    }
    norms = {"attention.output.LayerNorm": "aln", "output.LayerNorm": "oln"}
    for layer in range(config["num_hidden_layers"]):
        prefix, stored_prefix = f"encoder.layer.{layer}", f"l{layer}"
        for name, (short, rows, columns) in linears.items():
            layout[f"{prefix}.{name}.weight"] = (f"{stored_prefix}.{short}.w", (rows, columns))
            layout[f"{prefix}.{name}.bias"] = (f"{stored_prefix}.{short}.b", (rows,))
        for name, short in norms.items():
            layout[f"{prefix}.{name}.weight"] = (f"{stored_prefix}.{short}.w", (e,))
            layout[f"{prefix}.{name}.bias"] = (f"{stored_prefix}.{short}.b", (e,))
    return layout


def _tokenizer_config(contents: Contents) -> dict[str, Any]:
    # TokenizersBackend takes tokenizer.json as it is: XLMRobertaTokenizer builds its own
    # pre-tokenizer, and without a class the BERT config would select WordPiece.
    config: dict[str, Any] = {
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "cls_token": "<s>",
        "eos_token": "</s>",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": contents.config["max_position_embeddings"],
        "pad_token": "<pad>",
        "sep_token": "</s>",
        "tokenizer_class": "TokenizersBackend",
        "unk_token": "<unk>",
    }
    if contents.pieces[-1] == "<mask>":
        config["mask_token"] = "<mask>"
    return config
