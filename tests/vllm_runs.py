"""Bridges to a language model of a shape that vLLM has kernels for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

import tiny
from layerbridge.models.bridge import LayerBridge


def save(home: Path, encoder: Path, settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Saves a run for each name with its settings in ``home``; returns their folders."""
    tokenizer = tiny.byte_level(tiny.LLAMA_SPECIALS, "<|begin|> $A")
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.15,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        tiny.save(transformers.LlamaForCausalLM(config), tokenizer, home / "lm")
        for name, own in settings.items():
            bridge = LayerBridge.from_backbones(
                str(encoder),
                str(home / "lm"),
                dtype="float32",
                projection_start="random",
                **own,
            )
            with torch.no_grad():
                for tensor in bridge.trained_state_dict().values():
                    tensor.add_(0.3 * torch.randn(tensor.shape))
            bridge.save_pretrained(home / name)
    return [str(home / name) for name in settings]
