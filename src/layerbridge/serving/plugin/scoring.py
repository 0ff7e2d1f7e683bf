"""Scores options with vLLM: log p(option | text), for one option a request.

The option's tokens stand at the end of the prompt, and vLLM returns the log-probabilities of a
prompt's tokens. Legend: O options.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, cast

import torch
from vllm import SamplingParams
from vllm.engine.protocol import EngineClient
from vllm.sampling_params import RequestOutputKind

from layerbridge.models.inference import Classification
from layerbridge.serving.options import Options
from layerbridge.serving.plugin.renderer import BridgeRenderer
from layerbridge.serving.requests import Question

_numbers = itertools.count()


async def classify(engine: EngineClient, question: Question) -> Classification:
    """Scores the options of a question as ``LayerBridge.classify`` does.

    Raises:
        DataError: there are no options, one is empty or a duplicate, or they are too long.
        VLLMValidationError: with the prompt they exceed the context.
        NotFiniteError: a score is not a finite number.
    """
    renderer = cast(BridgeRenderer, engine.renderer)
    options = Options(renderer.bridge, question)
    prompt = renderer.prompt(question.text, question.instruction, question.language)
    tasks = [asyncio.ensure_future(_score(engine, renderer, prompt, ids)) for ids in options.ids]
    try:
        scores = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return options.ranking(torch.tensor(scores), 0).classification


async def _score(
    engine: EngineClient, renderer: BridgeRenderer, prompt: dict[str, Any], ids: Sequence[int]
) -> float:
    whole = {**prompt, "prompt_token_ids": [*prompt["prompt_token_ids"], *ids[:-1]]}
    (inputs,) = await renderer.render_cmpl_async([whole])
    sampling = SamplingParams(
        max_tokens=1,
        temperature=0.0,
        # The last token is an answer to the others.
        allowed_token_ids=[ids[-1]],
        logprobs=0,
        prompt_logprobs=0 if len(ids) > 1 else None,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    stream = engine.generate(inputs, sampling, f"layerbridge-classify-{next(_numbers)}")
    async with aclosing(stream):
        async for output in stream:
            last = output.outputs[0].logprobs[0][ids[-1]].logprob
            given = output.prompt_logprobs or []
            before = zip(given[len(given) - len(ids) + 1 :], ids[:-1], strict=True)
            return last + sum(logprobs[token].logprob for logprobs, token in before)
    raise RuntimeError("vLLM returned nothing")


async def classify_by_tokens(engine: EngineClient, question: Question) -> Classification:
    renderer = cast(BridgeRenderer, engine.renderer)
    options = Options(renderer.bridge, question)
    prompt = renderer.prompt(question.text, question.instruction, question.language)
    prefixes = list(dict.fromkeys(tuple(o[:e]) for o in options.ids for e in range(1, len(o) + 1)))
    values = await asyncio.gather(*(_score_last(engine, renderer, prompt, p) for p in prefixes))
    found = dict(zip(prefixes, values, strict=True))
    scores = [sum(found[tuple(o[:e])] for e in range(1, len(o) + 1)) for o in options.ids]
    return options.ranking(torch.tensor(scores), 0).classification


async def _score_last(engine, renderer, prompt, ids) -> float:
    whole = {**prompt, "prompt_token_ids": [*prompt["prompt_token_ids"], *ids[:-1]]}
    (inputs,) = await renderer.render_cmpl_async([whole])
    sampling = SamplingParams(
        max_tokens=1,
        temperature=0.0,
        allowed_token_ids=[ids[-1]],
        logprobs=0,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    stream = engine.generate(inputs, sampling, f"layerbridge-classify-{next(_numbers)}")
    async with aclosing(stream):
        async for output in stream:
            return output.outputs[0].logprobs[0][ids[-1]].logprob
