"""Scores options with vLLM: log p(option | text), for one more token of an option a request.

Each prefix of an option is a prompt with its last token as the only one allowed, whose
log-probability is the model's own. Options with a common prefix share requests, and a long text is
read once: the others find it in vLLM's prefix cache.

The log-probabilities of a prompt's own tokens, one request an option, are the same numbers, and on
short texts cheaper. But vLLM computes them without its prefix cache and for every token of the
text, which takes memory of the size of its vocabulary for each.
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
from vllm.exceptions import GenerationError
from vllm.sampling_params import RequestOutputKind

from layerbridge.models.inference import Classification
from layerbridge.serving.options import Options, prefixes_of
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
    prefixes = list(dict.fromkeys(each for ids in options.ids for each in prefixes_of(ids)))
    inputs = await renderer.render_cmpl_async(
        [
            {**prompt, "prompt_token_ids": [*prompt["prompt_token_ids"], *prefix[:-1]]}
            for prefix in prefixes
        ]
    )
    asked = list(zip(inputs, prefixes, strict=True))
    logprobs: list[float] = []
    if len(inputs[0]["prompt_token_ids"]) > engine.vllm_config.cache_config.block_size:
        logprobs.append(await _logprob(engine, *asked.pop(0)))  # the others find it in the cache
    tasks = [asyncio.ensure_future(_logprob(engine, *each)) for each in asked]
    try:
        logprobs += await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    found = dict(zip(prefixes, logprobs, strict=True))
    scores = [sum(found[prefix] for prefix in prefixes_of(ids)) for ids in options.ids]
    return options.ranking(torch.tensor(scores), len(inputs[0]["prompt_token_ids"])).classification


async def _logprob(engine: EngineClient, inputs: Any, prefix: Sequence[int]) -> float:
    """Returns the log-probability of a prefix's last token after the others."""
    sampling = SamplingParams(
        max_tokens=1,
        temperature=0.0,
        allowed_token_ids=[prefix[-1]],
        logprobs=0,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    stream = engine.generate(inputs, sampling, f"layerbridge-classify-{next(_numbers)}")
    async with aclosing(stream):
        async for output in stream:
            logprob: float = output.outputs[0].logprobs[0][prefix[-1]].logprob
            return logprob
    raise GenerationError("vLLM returned nothing")
