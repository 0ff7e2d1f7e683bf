"""vLLM without the server, given the embeddings that the server would compute.

``bench serve`` runs ``python -m layerbridge.benchmarking.serve_alone SETTINGS`` (JSON) with the
interpreter that has vLLM, writes one request for a round a line to its stdin, and reads the rounds
from its stdout. Texts are embedded before the clock starts.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from layerbridge.benchmarking.serve_load import Round, Sample, load
from layerbridge.models.backbone import LoadOptions, choose_device
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.requests import Prompt
from layerbridge.serving.text_encoder import MAX_TEXTS
from layerbridge.serving.vllm_launch import VLLMSettings, launch

_numbers = itertools.count()


async def measure(
    llm: Any, bridges: Bridges, texts: Sequence[str], concurrency: int, tokens: int
) -> Round:
    """Measures one round."""
    name = next(iter(bridges))
    prompts = [Prompt(name, text) for text in texts]
    started = time.perf_counter()
    embeddings: list[Tensor] = []
    for start in range(0, len(prompts), MAX_TEXTS):
        embeddings += [row.cpu() for row in bridges.embeds(prompts[start : start + MAX_TEXTS])]
    embedding_s = time.perf_counter() - started

    async def client(embedding: Tensor) -> Sample:
        return await generate(llm, embedding, tokens)

    result = await load([client] * concurrency, embeddings, lambda sample: sample)
    return replace(result, before_s=embedding_s)


async def generate(llm: Any, prompt: Tensor, tokens: int) -> Sample:
    """Generates exactly ``tokens`` tokens after embeddings [T, D]."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampling = SamplingParams(
        max_tokens=tokens,
        temperature=0.0,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
    sent = time.perf_counter()
    times: list[float] = []
    count = 0
    async for output in llm.generate({"prompt_embeds": prompt}, sampling, str(next(_numbers))):
        count += len(output.outputs[0].token_ids)
        times.append(time.perf_counter() - sent)
    return Sample(times[0], times[-1], times[-1], count, len(prompt))


async def main(settings: dict[str, Any], send: Callable[[Any], None]) -> None:
    """Measures the rounds requested on stdin, until it ends.

    Args:
        settings: ``run``, ``dtype``, ``device`` and ``vllm_options``.
        send: sends a document back.
    """
    loop = asyncio.get_running_loop()
    options, device = LoadOptions(settings["dtype"]), choose_device(settings["device"])
    bridges = Bridges.load([settings["run"]], options, device=device, weights=False)
    llm, _ = launch(VLLMSettings(extra=settings["vllm_options"]).arguments(bridges))
    try:
        send({"ready": True})
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            send(asdict(await measure(llm, bridges, **json.loads(line))))
    finally:
        llm.shutdown()


if __name__ == "__main__":
    # vLLM logs to stdout, which is for the rounds alone.
    output = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        # As uvicorn does, so that the comparison is fair.
        loop_factory = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        loop_factory = None
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(
            main(json.loads(sys.argv[1]), lambda document: print(json.dumps(document), file=output))
        )
