"""``bench latency``: milliseconds per generated token, greedy, one text at a time (Table V).

The fusions are compared with a pipeline: a translation model, then the language model on the
translated text. Every candidate generates exactly as many tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerBase

from layerbridge.benchmarking import sample, shapes
from layerbridge.benchmarking.measure import Progress, interleave, peak_bytes, to_dicts
from layerbridge.benchmarking.pair import Pair
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import (
    dtype_name,
    load_config,
    load_tokenizer,
    load_weights,
)
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.packing import Segment

FUSIONS = ("last", "global-softmax", "token-softmax")
TRANSLATE = "translate, then answer"


@dataclass(frozen=True)
class LatencyCase:
    """What is generated, and from what.

    Args:
        pair: the backbones.
        texts: texts per round, one after another.
        tokens: encoder tokens of each text; a news headline has about 20.
        new_tokens: generated after each text.
        translator: a seq2seq model's id or ``shape:NAME``; None omits the pipeline.
        cache: ``"dynamic"`` or ``"static"`` (fixed size; on a GPU transformers compiles it, with
            CUDA graphs).
        fusions: the strategies.
    """

    pair: Pair = field(default_factory=Pair)
    texts: int = 4
    tokens: int = 20
    new_tokens: int = 32
    translator: str | None = None
    cache: str = "dynamic"
    fusions: tuple[str, ...] = FUSIONS

    def generation(self, new_tokens: int) -> dict[str, Any]:
        """Returns the arguments of ``generate`` for exactly ``new_tokens`` tokens."""
        static = {"cache_implementation": "static"} if self.cache == "static" else {}
        return {
            "min_new_tokens": new_tokens,
            "max_new_tokens": new_tokens,
            "do_sample": False,
            **static,
        }


def run(case: LatencyCase, repeat: int = 3, progress: Progress | None = None) -> dict[str, Any]:
    """Measures times and, on a GPU, memory of every candidate.

    Returns:
        ``ms_per_token`` and ``ms_to_first_token`` by candidate, ``over_last`` (each one's time over
        that of ``last``), ``peak_bytes`` (a GPU's; None on a CPU).
    """
    device = case.pair.torch_device()
    encoder, language_model = backbones = case.pair.load()
    texts = [sample.text_of(encoder, case.tokens, seed) for seed in range(case.texts)]
    candidates: dict[str, Callable[[int], None]] = {}
    for fusion in case.fusions:
        bridge = case.pair.bridge(fusion, backbones=backbones).eval()
        candidates[fusion] = partial(_answer, case, bridge, texts)
    if case.translator is not None:
        translator, ids = _load_translator(case)
        candidates[TRANSLATE] = partial(
            _translate_and_answer, case, translator, ids, language_model
        )
    full, first = (
        interleave(
            {name: partial(call, new_tokens) for name, call in candidates.items()},
            repeat,
            device=device,
            progress=progress,
        )
        for new_tokens in (case.new_tokens, 1)
    )
    tokens = case.texts * case.new_tokens
    per_token = {name: 1e3 * timing.median / tokens for name, timing in full.items()}
    base = per_token.get("last")
    peaks = None
    if device.type == "cuda":
        peaks = {
            name: peak_bytes(partial(call, case.new_tokens), device)[1]
            for name, call in candidates.items()
        }
    return {
        "ms_per_token": per_token,
        "ms_to_first_token": {n: 1e3 * t.median / case.texts for n, t in first.items()},
        "over_last": {n: value / base for n, value in per_token.items()} if base else None,
        "peak_bytes": peaks,
        "round_s": to_dicts(full),
        "texts": case.texts,
        "tokens": case.tokens,
        "new_tokens": case.new_tokens,
        "cache": case.cache,
        "dtype": dtype_name(language_model.dtype),
    }


def _answer(case: LatencyCase, bridge: LayerBridge, texts: list[str], new_tokens: int) -> None:
    for text in texts:
        bridge.generate(hidden_states=bridge.encode([text]), **case.generation(new_tokens))


@torch.no_grad()
def _translate_and_answer(
    case: LatencyCase,
    translator: PreTrainedModel,
    ids: torch.Tensor,
    language_model: LanguageModel,
    new_tokens: int,
) -> None:
    """Translates into as many tokens as the text has, then answers."""
    for _ in range(case.texts):
        english = translator.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=case.tokens,
            max_new_tokens=case.tokens,
            do_sample=False,
            num_beams=1,
        )
        # The two vocabularies are unrelated, so only the length is passed on.
        words = torch.full((1, english.shape[1]), 5, device=language_model.device)
        segment = Segment(language_model.embed(words), torch.ones_like(words, dtype=torch.bool))
        language_model.generate([segment], **case.generation(new_tokens))


def _load_translator(case: LatencyCase) -> tuple[PreTrainedModel, torch.Tensor]:
    """Returns the translation model and the ids of a text."""
    assert case.translator is not None
    tokenizer: PreTrainedTokenizerBase
    if shapes.is_shape(case.translator):
        model, tokenizer = shapes.translator(case.translator, **case.pair.build_options())
        text = shapes.text(case.tokens, 0)
    else:
        source, options = resolve(case.translator), case.pair.load_options()
        config = load_config("translator", source, options)
        arguments = options.for_transformers(source)
        model = load_weights("translator", source, AutoModelForSeq2SeqLM, config, arguments)
        model = model.to(case.pair.torch_device()).eval()
        tokenizer = load_tokenizer("translator", source, options)
        text = "the news of today " * case.tokens
    ids = tokenizer(text, return_tensors="pt").input_ids[:, : case.tokens]
    return model, ids.to(model.device)
