"""``bench latency``: milliseconds a generated token, greedy, one text at a time (Table V).

Beside the fusions stands the translate-then-answer pipeline: a translation model, then the language
model on the translated text. Every contestant generates exactly as many tokens, whatever they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerBase

from layerbridge.benchmarking import sample, shapes
from layerbridge.benchmarking.measure import interleave, peak_bytes
from layerbridge.benchmarking.pair import SHAPE, Pair
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import (
    LoadOptions,
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
        texts: how many texts a round, one after another.
        tokens: encoder tokens of each text; a news headline has about 20.
        new_tokens: generated after each text.
        translator: a seq2seq model's id or ``shape:NAME``; None leaves the pipeline out.
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


def run(
    case: LatencyCase,
    repeat: int = 3,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Times and, on a GPU, memory of every contestant.

    Returns:
        ``ms_per_token`` and ``ms_to_first_token`` by contestant, ``over_last`` (each one's time
        over that of ``last``), ``peak_bytes`` (a GPU's; None on a CPU).
    """
    device = case.pair.place()
    backbones = case.pair.load_encoder(), case.pair.load_language_model()
    texts = [sample.text_of(backbones[0], case.tokens, seed) for seed in range(case.texts)]
    contestants: dict[str, Callable[[int], None]] = {}
    for fusion in case.fusions:
        bridge = case.pair.bridge(fusion, backbones=backbones).eval()
        contestants[fusion] = _answering(bridge, texts, case)
    if case.translator is not None:
        contestants[TRANSLATE] = _translating(backbones[1], case)
    whole = interleave(
        {name: partial(call, case.new_tokens) for name, call in contestants.items()},
        repeat,
        device=device,
        progress=progress,
    )
    first = interleave(
        {name: partial(call, 1) for name, call in contestants.items()},
        repeat,
        device=device,
        progress=progress,
    )
    each = case.texts * case.new_tokens
    per_token = {name: 1e3 * timing.median / each for name, timing in whole.items()}
    base = per_token.get("last")
    return {
        "ms_per_token": per_token,
        "ms_to_first_token": {n: 1e3 * t.median / case.texts for n, t in first.items()},
        "over_last": {n: value / base for n, value in per_token.items()} if base else None,
        "peak_bytes": _peaks(contestants, case, device),
        "round_s": {name: timing.to_dict() for name, timing in whole.items()},
        "texts": case.texts,
        "tokens": case.tokens,
        "new_tokens": case.new_tokens,
        "cache": case.cache,
        "dtype": dtype_name(backbones[1].dtype),
    }


def _answering(
    bridge: LayerBridge, texts: Sequence[str], case: LatencyCase
) -> Callable[[int], None]:
    def answer(new_tokens: int) -> None:
        for text in texts:
            bridge.generate(hidden_states=bridge.encode([text]), **_exactly(new_tokens, case))

    return answer


def _translating(language_model: LanguageModel, case: LatencyCase) -> Callable[[int], None]:
    """The pipeline: as many tokens of translation as the text has, then the answer."""
    assert case.translator is not None
    translator, tokenizer = _translator(case.translator, case.pair)
    ids = tokenizer(_words(tokenizer, case.tokens), return_tensors="pt").input_ids
    ids = ids[:, : case.tokens].to(translator.device)
    device = language_model.device

    @torch.no_grad()
    def answer(new_tokens: int) -> None:
        for _ in range(case.texts):
            english = translator.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                min_new_tokens=case.tokens,
                max_new_tokens=case.tokens,
                do_sample=False,
                num_beams=1,
            )
            # The two vocabularies have nothing to do with each other: only the length is kept.
            words = torch.full((1, english.shape[1]), 5, device=device)
            piece = Segment(language_model.embed(words), torch.ones_like(words, dtype=torch.bool))
            language_model.generate([piece], **_exactly(new_tokens, case))

    return answer


def _exactly(new_tokens: int, case: LatencyCase) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "min_new_tokens": new_tokens,
        "max_new_tokens": new_tokens,
        "do_sample": False,
    }
    if case.cache == "static":
        arguments["cache_implementation"] = "static"
    return arguments


def _translator(name: str, pair: Pair) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if name.startswith(SHAPE):
        bare = name.removeprefix(SHAPE)
        return shapes.translator(bare, dtype=pair.dtype, device=str(pair.place()))
    source = resolve(name)
    options = LoadOptions(pair.dtype)
    config = load_config("translator", source, options)
    arguments = options.for_transformers(source)
    model = load_weights("translator", source, AutoModelForSeq2SeqLM, config, arguments)
    return model.to(pair.place()).eval(), load_tokenizer("translator", source, options)


def _words(tokenizer: PreTrainedTokenizerBase, tokens: int) -> str:
    if shapes.is_synthetic(tokenizer):
        return shapes.text(tokens, 0)
    return "the news of today " * tokens


def _peaks(
    contestants: dict[str, Callable[[int], None]], case: LatencyCase, device: torch.device
) -> dict[str, int] | None:
    """Peak GPU memory, everything that is loaded included."""
    if device.type != "cuda":
        return None
    found = {}
    for name, call in contestants.items():
        _, found[name] = peak_bytes(partial(call, case.new_tokens), device)
    return found
