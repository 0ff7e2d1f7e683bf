"""Text encoder: prompts → input embeddings for vLLM, in a thread and batched on arrival."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import LayerBridgeError, NotFiniteError
from layerbridge.models.finite import advice
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.engine import EngineDownError, OnBatch, resolve
from layerbridge.serving.jobs import LostDeviceError, as_failure, check_device
from layerbridge.serving.requests import Prompt
from layerbridge.serving.worker import Worker

MAX_TEXTS = 32
# How long the first prompt waits for others to batch.
WAIT_S = 0.003

# A prompt, and the future of its embeddings.
_Entry = tuple[Prompt, "asyncio.Future[Tensor]"]


class TextEncoder:
    """The one thread that runs torch for vLLM. Legend: T LM tokens, D LM width.

    Attributes:
        lost: why no call can succeed any more in this process, if so.
    """

    def __init__(self, on_batch: OnBatch) -> None:
        self.bridges: Bridges | None = None
        self.lost: str | None = None
        self._on_batch = on_batch
        self._thread = Worker("encoder")
        self._entries: list[_Entry] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether texts can be encoded."""
        return self.lost is None and self._thread.is_alive

    async def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Runs ``call`` in the thread.

        Raises:
            EngineDownError: the thread has ended, or the device is lost.
            MemoryError: ``call`` needs more memory than there is.
        """
        return await self._thread.run(self._checked, call, *arguments)

    def _checked(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:
            if self.bridges is None:
                raise
            try:
                check_device(self.bridges.language_model.device)
            except LostDeviceError as lost:
                self.lost = str(lost)
                raise EngineDownError(self.lost) from lost
            failure = as_failure(error)
            if failure is error:
                raise
            raise failure from error

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
        self._thread.stop()

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
        except BaseException:
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
        fitting = []
        for prompt, future in batch:
            try:
                (length,) = self.bridges.prompt_tokens(
                    prompt.bridge, [prompt.text], prompt.instruction
                )
                self.bridges.max_new_tokens(length)
            except LayerBridgeError as error:
                loop.call_soon_threadsafe(resolve, future, error)
            else:
                fitting.append((prompt, future))
        for rows in self.bridges.embed_batches([prompt for prompt, _ in fitting]):
            for index, row in rows:
                outcome: Any = row.cpu()
                if not outcome.isfinite().all():  # rounded to float16, say
                    outcome = NotFiniteError("the soft prompt", hint=advice(row.dtype))
                loop.call_soon_threadsafe(resolve, fitting[index][1], outcome)

    @staticmethod
    def _fail(entries: Sequence[_Entry]) -> None:
        for _, future in entries:
            resolve(future, EngineDownError("the engine was stopped"))
