"""A run on tiny random models, for benchmarks of the server that need no trained one."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from layerbridge.models.bridge import LayerBridge

OPTIONS = ["country", "currency", "time zone", "language"]
CORPUS = ["The market rose while the players of both teams entertained the crowd.", *OPTIONS]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
# As of small real models, so that limits are reached by what the server's own limits let through.
POSITIONS = 1024
WIDTH = 32
INITIAL = 0.3


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Returns a byte-level tokenizer, to which nothing is unknown."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = ("bos_token", "pad_token", "eos_token", "unk_token")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=512, **dict(zip(names, SPECIALS, strict=True))
    )


def make(folder: Path, seed: int = 0) -> Path:
    """Writes an encoder, a language model and an untrained bridge; returns the bridge's folder."""
    torch.manual_seed(seed)
    words = tokenizer()
    common = {
        **{"vocab_size": len(words), "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH},
        **{"num_hidden_layers": 4, "num_attention_heads": 4, "initializer_range": INITIAL},
        **{"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2},
    }
    encoder = transformers.XLMRobertaConfig(**common, max_position_embeddings=514)
    causal = transformers.LlamaConfig(**common, max_position_embeddings=POSITIONS)
    for name, model in (
        ("encoder", transformers.XLMRobertaForMaskedLM(encoder)),
        ("language-model", transformers.LlamaForCausalLM(causal)),
    ):
        model.save_pretrained(folder / name)
        words.save_pretrained(folder / name)
    bridge = LayerBridge.from_backbones(
        str(folder / "encoder"),
        str(folder / "language-model"),
        dtype="float32",
        options=OPTIONS,
        instruction=" is a",
    )
    bridge.save_pretrained(folder / "tiny")
    return folder / "tiny"
