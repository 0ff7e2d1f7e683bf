"""Tiny random backbones, written as the folders that a user would download.

They are small enough to build in milliseconds and random enough (large initial weights) that a
mistake of one position, one layer or one token shows in the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "The market rose while the players of both teams entertained the crowd.",
    "Premise: a sentence Hypothesis: another sentence Label:",
    "Business Entertainment Political Sports Science Entailment Neutral Contradiction",
    "Answer with one word. What is the category of the text?",
]
WORDS = (
    *("▁the", "▁a", "▁market", "▁rose", "▁while", "▁Premise", "▁Label", "▁of", "▁teams"),
    *("en", "ing", "er", "s", "▁", "ම", "▁ශ්", "猫", "ال"),
)


def byte_level(specials: dict[str, str], template: str | None) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2, Llama 3 and many others have: nothing is ever unknown."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=list(specials.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return wrapped(tokenizer, specials, template)


def unigram(
    specials: dict[str, str], template: str | None, extra: tuple[str, ...] = ()
) -> PreTrainedTokenizerFast:
    """Unigram with byte fallback, as sentencepiece models have."""
    pieces = [(token, 0.0) for token in (*specials.values(), *extra)]
    pieces += [(f"<0x{byte:02X}>", -12.0) for byte in range(256)]
    pieces += [(chr(code), -8.0) for code in range(ord("!"), ord("~") + 1)]
    known = {piece for piece, _ in pieces}
    pieces += [(word, -4.0) for word in WORDS if word not in known]
    unk = [piece for piece, _ in pieces].index(specials["unk_token"])
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=unk, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()]
    )
    return wrapped(tokenizer, specials, template)


def wrapped(
    tokenizer: tokenizers.Tokenizer, specials: dict[str, str], template: str | None
) -> PreTrainedTokenizerFast:
    if template is not None:
        tokens = [token for token in template.split() if token != "$A"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template,
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in tokens],
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials)


T5_SPECIALS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
XLMR_SPECIALS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
}
BERT_SPECIALS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
}
GEMMA_SPECIALS = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}
LLAMA_SPECIALS = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
GPT2_SPECIALS = {"eos_token": "<|endoftext|>"}


def t5(folder: Path, name: str, layers: int, width: int) -> None:
    tokenizer = unigram(T5_SPECIALS, "$A </s>")
    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=2 * width,
        num_layers=layers,
        num_decoder_layers=layers + 2,
        num_heads=4,
        decoder_start_token_id=0,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=16,
        initializer_factor=1.0,
    )
    save(getattr(transformers, f"{name}ForConditionalGeneration")(config), tokenizer, folder)


def bert_like(folder: Path, name: str, layers: int, width: int) -> None:
    if name == "Bert":
        tokenizer = byte_level(BERT_SPECIALS, "[CLS] $A [SEP]")
    else:
        tokenizer = unigram(XLMR_SPECIALS, "<s> $A </s>")
    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=514,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
    )
    tokenizer.model_max_length = 512
    # With its language model head and pooler or without, as hub checkpoints come.
    save(getattr(transformers, f"{name}ForMaskedLM")(config), tokenizer, folder)


def m2m(folder: Path, layers: int, width: int) -> None:
    tokenizer = unigram(XLMR_SPECIALS, "__en__ $A </s>", extra=("__en__",))
    config = transformers.M2M100Config(
        vocab_size=len(tokenizer),
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers + 1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=2 * width,
        decoder_ffn_dim=2 * width,
        max_position_embeddings=600,
        init_std=0.3,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    save(transformers.M2M100ForConditionalGeneration(config), tokenizer, folder)


def gemma2(folder: Path, layers: int, width: int) -> None:
    tokenizer = byte_level(GEMMA_SPECIALS, "<bos> $A")
    config = transformers.Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        query_pre_attn_scalar=8,
        max_position_embeddings=1024,
        sliding_window=1024,
        # Low, so that a head without it is plainly wrong.
        final_logit_softcapping=2.0,
        # A tied head repeats the last token for ever when weights are random.
        tie_word_embeddings=False,
        initializer_range=0.2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    save(transformers.Gemma2ForCausalLM(config), tokenizer, folder)


def llama(folder: Path, layers: int, width: int) -> None:
    tokenizer = byte_level(LLAMA_SPECIALS, "<|begin|> $A")
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.15,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    save(transformers.LlamaForCausalLM(config), tokenizer, folder)


def gpt2(folder: Path, layers: int, width: int) -> None:
    tokenizer = byte_level(GPT2_SPECIALS, None)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=width,
        n_layer=layers,
        n_head=4,
        n_positions=1024,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    save(transformers.GPT2LMHeadModel(config), tokenizer, folder)


def save(
    model: transformers.PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    # Norms start at one and biases at zero: move them, or forgetting one would not show.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# name → how it is built, its L and its E.
ENCODERS: dict[str, tuple[Callable[[Path, int, int], None], int, int]] = {
    "mt5": (lambda folder, layers, width: t5(folder, "MT5", layers, width), 3, 32),
    "umt5": (lambda folder, layers, width: t5(folder, "UMT5", layers, width), 2, 32),
    "xlm-r": (lambda folder, layers, width: bert_like(folder, "XLMRoberta", layers, width), 4, 24),
    "bert": (lambda folder, layers, width: bert_like(folder, "Bert", layers, width), 2, 16),
    "m2m100": (m2m, 3, 32),
    "gemma2-encoder": (gemma2, 3, 32),
}
LANGUAGE_MODELS: dict[str, tuple[Callable[[Path, int, int], None], int, int]] = {
    "llama": (llama, 2, 48),
    "gpt2": (gpt2, 2, 32),
    "gemma2": (gemma2, 2, 40),
}
# The class that reads a folder whole: what a frozen half or body is compared with.
WHOLE = {
    "mt5": transformers.MT5ForConditionalGeneration,
    "umt5": transformers.UMT5ForConditionalGeneration,
    "xlm-r": transformers.XLMRobertaForMaskedLM,
    "bert": transformers.BertForMaskedLM,
    "m2m100": transformers.M2M100ForConditionalGeneration,
    "gemma2-encoder": transformers.Gemma2ForCausalLM,
    "llama": transformers.LlamaForCausalLM,
    "gpt2": transformers.GPT2LMHeadModel,
    "gemma2": transformers.Gemma2ForCausalLM,
}


def write(name: str, folder: Path) -> Path:
    """The backbone of that name, in ``folder``."""
    build, layers, width = (ENCODERS | LANGUAGE_MODELS)[name]
    with torch.random.fork_rng():
        torch.manual_seed(sum(name.encode()))
        build(folder, layers, width)
    return folder
