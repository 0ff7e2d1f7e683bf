"""vLLM alone, fed with the embeddings that the server would feed it: what does the server cost?

``bench serve`` runs ``python -m layerbridge.benchmarking.serve_alone`` with the interpreter that
has vLLM and a JSON document that says what to start, tells it on stdin what to do, one more a line,
and reads the rounds from stdout. Texts are embedded before the clock starts.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from layerbridge.benchmarking.serve_load import Sample, load
from layerbridge.models.backbone import LoadOptions, choose_device
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.requests import Prompt
from layerbridge.serving.text_encoder import MAX_TEXTS
from layerbridge.serving.vllm_launch import VLLMSettings, launch


class Alone:
    """vLLM, started as the server starts it.

    Args:
        bridges: that make the embeddings.
        settings: vLLM's.
    """

    def __init__(self, bridges: Bridges, settings: VLLMSettings) -> None:
        self._bridges = bridges
        self._numbers = itertools.count()
        self._llm, _ = launch(settings.arguments(bridges))

    async def round(self, texts: Sequence[str], concurrency: int, tokens: int) -> dict[str, Any]:
        """One round; before its clock runs, the texts are embedded."""
        name = next(iter(self._bridges))
        asks = [Prompt(name, text) for text in texts]
        started = time.perf_counter()
        prompts: list[Tensor] = []
        for at in range(0, len(asks), MAX_TEXTS):
            prompts += [row.cpu() for row in self._bridges.embeds(asks[at : at + MAX_TEXTS])]
        embedding_s = time.perf_counter() - started

        async def ask(prompt: Tensor) -> Sample:
            return await self._ask(prompt, tokens)

        found = await load(ask, prompts, concurrency, lambda sample: sample)
        return replace(found, before_s=embedding_s).to_dict()

    async def _ask(self, prompt: Tensor, tokens: int) -> Sample:
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
        stream = self._llm.generate({"prompt_embeds": prompt}, sampling, str(next(self._numbers)))
        async for answer in stream:
            count += len(answer.outputs[0].token_ids)
            times.append(time.perf_counter() - sent)
        return Sample(times[0], times[-1], times[-1], count, len(prompt))

    def stop(self) -> None:
        """Ends vLLM's processes."""
        self._llm.shutdown()


async def main(start: Mapping[str, Any], tell: Callable[[Any], None]) -> None:
    """Does what stdin says until it ends.

    Args:
        start: ``run``, ``dtype``, ``device`` and ``vllm_options``.
        tell: sends a document back.
    """
    loop = asyncio.get_running_loop()
    options = LoadOptions(start["dtype"])
    device = choose_device(start["device"])
    bridges = Bridges.load([start["run"]], options, device=device, weights=False)
    alone = Alone(bridges, VLLMSettings(extra=start["vllm_options"]))
    try:
        tell({"ready": True})
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            tell(await alone.round(**json.loads(line)))
    finally:
        alone.stop()


def _run() -> None:
    # vLLM logs to stdout, which is for what is told.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(found: Any) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    # uvicorn takes uvloop where there is one; the rival shall have no slower one.
    try:
        factory = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(json.loads(sys.argv[1]), tell))


if __name__ == "__main__":
    _run()
