"""The heap of a vLLM worker under prompts of all lengths: bytes in use, and free.

    .venv-vllm/bin/python benchmarks/worker_heap.py runs/demo/token-softmax --kernels 256 --tidy

Sixty-four clients send vLLM embedded prompts, one to five texts long, for answers of 1 to 24
tokens. The figures are those of the C library (glibc) in the worker. The last line of stdout is one
JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from layerbridge.benchmarking.measure import machine
from layerbridge.benchmarking.serve_texts import texts
from layerbridge.models.backbone import LoadOptions
from layerbridge.progress import say
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.heap import KERNEL_CACHE, WorkerHeap
from layerbridge.serving.requests import Prompt
from layerbridge.serving.vllm_launch import VLLMSettings, launch

CLIENTS = 64
NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]


class WatchedHeap(WorkerHeap):
    """A worker's heap and its figures."""

    def heap(self, tidy: bool) -> dict[str, int]:
        """Returns the bytes in use, free and resident."""
        if tidy:
            self.trim_heap()
        mallinfo2 = ctypes.CDLL(None).mallinfo2
        mallinfo2.restype = _MallInfo
        info = mallinfo2()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {
            "in_use": info.uordblks,
            "free": info.fordblks,
            "resident": pages * os.sysconf("SC_PAGE_SIZE"),
        }


async def watch(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns the heap's figures every 20 seconds."""
    bridges = Bridges.load([arguments.run], LoadOptions("float32"), weights=False)
    (name,) = bridges
    rows = bridges.embeds([Prompt(name, text) for text in texts(400)])
    extra = {"worker_extension_cls": "worker_heap.WatchedHeap"}
    llm, _ = launch(VLLMSettings(enforce_eager=True, extra=extra).arguments(bridges))
    draw = random.Random(0)
    answers = 0

    async def client(number: int) -> None:
        nonlocal answers
        while True:
            prompt = torch.cat(draw.choices(rows, k=draw.choice([1, 1, 1, 2, 5])))[:1500]
            sampling = SamplingParams(
                max_tokens=draw.choice([1, 2, 4, 8, 24]),
                temperature=0.0,
                ignore_eos=True,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            answers += 1
            async for _ in llm.generate({"prompt_embeds": prompt}, sampling, f"{answers}"):
                pass

    figures = []
    clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
    started = time.monotonic()
    while (passed := time.monotonic() - started) < arguments.seconds:
        await asyncio.sleep(20)
        (heap,) = await llm.collective_rpc("heap", args=(arguments.tidy,))
        figures.append({"seconds": passed + 20, "answers": answers, **heap})
        say(json.dumps(figures[-1]))
    for one in clients:
        one.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    llm.shutdown()
    return figures


def main() -> None:
    """Prints the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", help="a trained bridge: its folder or hub id")
    parser.add_argument(
        "--kernels", default="1024", help="oneDNN's kernel cache (its default: 1024)"
    )
    parser.add_argument("--tidy", action="store_true", help="malloc_trim every 20 seconds")
    parser.add_argument("--seconds", type=float, default=180.0)
    arguments = parser.parse_args()
    os.environ[KERNEL_CACHE] = arguments.kernels
    # The worker imports this file.
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    stdout, sys.stdout = sys.stdout, sys.stderr  # vLLM logs to stdout
    heap = asyncio.run(watch(arguments))
    settings = {"kernels": int(arguments.kernels), "tidy": arguments.tidy}
    print(
        json.dumps({**settings, "heap": heap, "machine": machine(torch.device("cpu"))}), file=stdout
    )


if __name__ == "__main__":
    main()
