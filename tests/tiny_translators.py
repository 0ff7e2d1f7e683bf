"""Tiny random translation models, and translating with them the slow and plain way."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoTokenizer, NllbTokenizer

import tiny

LETTERS = "abcdefghijklmnopqrstuvwxyzමශරලකයපලන්ීිුා猫தமிழ்.,?"
FAMILIES = ("nllb", "m2m100", "marian")
# Language → what a row of it begins with, by family.
MARKS = {
    "nllb": {"si": "sin_Sinh", "ta": "tam_Taml"},
    "m2m100": {"si": "__si__", "ta": "__ta__"},
    "marian": {},
}
ENGLISH = {"nllb": "eng_Latn", "m2m100": "__en__"}


def write(family: str, folder: Path, seed: int = 0, positions: int = 64) -> Path:
    """A translator of that family, in ``folder``; another seed is another model."""
    _save(family, folder, _tokenizer(family), seed=seed, positions=positions)
    return folder


def write_published(family: str, folder: Path) -> Path:
    """The same with the tokenizer of published models; needs sentencepiece."""
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*tiny.CORPUS, " ".join(LETTERS), "ම ශ්‍රී ලංකා தமிழ்"] * 9),
        model_writer=written,
        vocab_size=120,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    folder.mkdir()
    model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    pieces = [model.id_to_piece(n) for n in range(model.vocab_size())]
    pieces = [piece for piece in pieces if piece not in ("<s>", "</s>", "<unk>")]
    first, last, names = {
        "m2m100": (("<s>", "<pad>", "</s>", "<unk>"), (), ("sentencepiece.bpe.model",)),
        "marian": (("</s>", "<unk>"), ("<pad>",), ("source.spm", "target.spm")),
    }[family]
    for name in names:
        (folder / name).write_bytes(written.getvalue())
    vocab = {piece: n for n, piece in enumerate((*first, *pieces, *last))}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    cls = transformers.M2M100Tokenizer if family == "m2m100" else transformers.MarianTokenizer
    # M2M100's language tokens come after the vocabulary, and eight more for nothing.
    _save(family, folder, cls.from_pretrained(folder), extra=108 if family == "m2m100" else 0)
    return folder


def naive(family: str, folder: Path, text: str, language: str, most: int = 12) -> str:
    """One text, token by token, the whole model for each of them."""
    model, tokenizer = _whole(family, folder)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    if family != "marian":
        ids = [tokenizer.convert_tokens_to_ids(MARKS[family][language]), *ids]
    source = torch.tensor([[*ids, tokenizer.eos_token_id]])
    written = [model.config.decoder_start_token_id]
    if family != "marian":
        written.append(tokenizer.convert_tokens_to_ids(ENGLISH[family]))
    marks = len(written)
    with torch.no_grad():
        while len(written) < 1 + most:
            logits = model(input_ids=source, decoder_input_ids=torch.tensor([written])).logits
            written.append(int(logits[0, -1].argmax()))
            if written[-1] == tokenizer.eos_token_id:
                break
    return tokenizer.decode(written[marks:], skip_special_tokens=True).strip()


@cache
def _whole(family: str, folder: Path) -> tuple[Any, Any]:
    cls = transformers.M2M100ForConditionalGeneration
    if family == "marian":
        cls = transformers.MarianMTModel
    return cls.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def _save(
    family: str,
    folder: Path,
    tokenizer: transformers.PreTrainedTokenizerBase,
    *,
    seed: int = 0,
    positions: int = 64,
    extra: int = 0,
) -> None:
    common = {
        "vocab_size": len(tokenizer) + extra,
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": positions,
        "init_std": 1.0 if family == "marian" else 0.6,
        # A tied head repeats the last token for ever when weights are random.
        "tie_word_embeddings": False,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed + (family == "nllb"))
        if family == "marian":
            config = transformers.MarianConfig(
                **common, decoder_start_token_id=tokenizer.pad_token_id, forced_eos_token_id=None
            )
            model = transformers.MarianMTModel(config)
        else:
            config = transformers.M2M100Config(
                **common, decoder_start_token_id=tokenizer.eos_token_id
            )
            model = transformers.M2M100ForConditionalGeneration(config)
        # As published models have it; a user who asks for one beam gets one.
        model.generation_config.num_beams = 3
        model.generation_config.early_stopping = True
        with torch.no_grad():
            head = model.get_output_embeddings().weight
            # A trained model writes no pads, at which M2M100 does not count on.
            head[tokenizer.all_special_ids] *= 0
            head[tokenizer.eos_token_id] = 0.8 * torch.randn(head.shape[1])
        tiny.save(model, tokenizer, folder)


def _tokenizer(family: str) -> transformers.PreTrainedTokenizerBase:
    """Of letters and a few words: what a random model writes can be read, and differs."""
    if family == "nllb":
        vocab = {token: n for n, token in enumerate(("<s>", "<pad>", "</s>", "<unk>", "▁"))}
        for letter in LETTERS:
            vocab.setdefault(letter, len(vocab))
        return NllbTokenizer(vocab=vocab, merges=[])
    specials, template, marks = tiny.T5_SPECIALS, "$A </s>", ()
    if family == "m2m100":
        specials, template = tiny.XLMR_SPECIALS, "__en__ $A </s>"
        marks = ("__en__", "__si__", "__ta__")
    pieces = dict.fromkeys((*specials.values(), *marks), 0.0)
    pieces |= dict.fromkeys(LETTERS, -8.0) | dict.fromkeys(tiny.WORDS, -4.0)
    unk = list(pieces).index(specials["unk_token"])
    tokenizer = tokenizers.Tokenizer(models.Unigram(list(pieces.items()), unk_id=unk))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tiny.wrapped(tokenizer, specials, template)
