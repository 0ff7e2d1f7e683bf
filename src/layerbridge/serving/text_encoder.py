"""Text encoder: prompts → input embeddings for vLLM, in a thread and batched on arrival."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jaxtyping import Float
from torch import Tensor

from layerbridge.serving.bridges import Bridges
from layerbridge.serving.engine import EngineDownError, OnBatch, resolve
from layerbridge.serving.requests import Prompt

MAX_TEXTS = 32
# How long the first prompt waits for others to batch.
WAIT_S = 0.003

# A prompt, and the future of its embeddings.
_Entry = tuple[Prompt, "asyncio.Future[Tensor]"]


class TextEncoder:
    """The one thread that runs torch for vLLM. Legend: T LM tokens, D LM width."""

    def __init__(self, on_batch: OnBatch) -> None:
        self.bridges: Bridges | None = None
        self._on_batch = on_batch
        self._thread = ThreadPoolExecutor(1, "layerbridge-encoder")
        self._entries: list[_Entry] = []
        self._task: asyncio.Task[None] | None = None

    async def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Runs ``call`` in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    async def embeds(self, prompt: Prompt) -> Float[Tensor, "T D"]:
        """Returns the language model's input, on the CPU."""
        future = asyncio.get_running_loop().create_future()
        self._entries.append((prompt, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._collect())
        return await future

    def stop(self) -> None:
        """Ends the thread; waiting calls raise ``EngineDownError``."""
        if self._task is not None:
            self._task.cancel()
        self._fail(self._entries)
        self._entries = []
        self._thread.shutdown(wait=False)

    async def _collect(self) -> None:
        batch: list[_Entry] = []
        try:
            while self._entries:
                if len(self._entries) < MAX_TEXTS:
                    await asyncio.sleep(WAIT_S)
                batch, self._entries = self._entries[:MAX_TEXTS], self._entries[MAX_TEXTS:]
                # Clients may have gone meanwhile.
                batch = [entry for entry in batch if not entry[1].done()]
                await self._encode(batch)
        except asyncio.CancelledError:
            self._fail(batch)
            raise

    async def _encode(self, batch: Sequence[_Entry]) -> None:
        if not batch:
            return
        self._on_batch("encode", len(batch))
        try:
            await self.run(self._embed, batch, asyncio.get_running_loop())
        except Exception as error:
            left = [entry for entry in batch if not entry[1].done()]
            if len(batch) == 1:
                resolve(batch[0][1], error)
                return
            for entry in left:  # one of them has failed, and the others still need an answer
                await self._encode([entry])

    def _embed(self, batch: Sequence[_Entry], loop: asyncio.AbstractEventLoop) -> None:
        """Passes rows on after each batch, so that vLLM starts while the next is encoded."""
        assert self.bridges is not None
        for rows in self.bridges.embed_batches([prompt for prompt, _ in batch]):
            for index, row in rows:
                loop.call_soon_threadsafe(resolve, batch[index][1], row.cpu())

    @staticmethod
    def _fail(entries: Sequence[_Entry]) -> None:
        for _, future in entries:
            resolve(future, EngineDownError("the engine was stopped"))
