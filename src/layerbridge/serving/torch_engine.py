"""The embedded engine: continuous batching with torch, in a thread of its own.

A request that fails takes no other one with it. The engine goes down only if the device is lost or
there is a mistake in the engine itself.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from layerbridge.errors import LayerBridgeError
from layerbridge.models.inference import LayerWeights
from layerbridge.serving.bridges import Bridges, texts_of
from layerbridge.serving.completions import Completions
from layerbridge.serving.engine import (
    THREAD,
    EngineDownError,
    Load,
    LocalEngine,
    OnBatch,
    resolve,
)
from layerbridge.serving.heap import HeapTrimmer
from layerbridge.serving.jobs import Job, LostDeviceError, isolated
from layerbridge.serving.labels import Ranking
from layerbridge.serving.options import Options
from layerbridge.serving.requests import Event, Finished, Prompt, Question

LOG = logging.getLogger(__name__)

# How long a step may take to end when the engine is stopped.
STOP_S = 10.0


class TorchEngine(LocalEngine):
    """Runs the models in this process.

    Args:
        load: loads the bridges; called by ``start`` in the engine's thread.
        on_batch: called with every batch.
        max_batch: maximum rows.
        wait_ms: how long an idle engine waits for more requests to batch.
    """

    name = "torch"

    def __init__(
        self,
        load: Callable[[], Bridges],
        on_batch: OnBatch | None = None,
        *,
        max_batch: int = 32,
        wait_ms: float = 3.0,
    ) -> None:
        super().__init__(load, on_batch)
        self._max_batch = max_batch
        self._wait_s = wait_ms / 1000
        self._prompts: deque[Job] = deque()
        self._queries: deque[Job] = deque()  # classifications and layer weights
        self._open: set[Job] = set()  # jobs that somebody waits for
        self._completions: Completions | None = None
        self._busy = 0  # queries in progress
        self._changed = threading.Condition()
        self._stopping = False
        self._heap = HeapTrimmer()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def load(self) -> Load:
        """The number of waiting and running requests."""
        return Load(len(self._prompts) + len(self._queries), self._rows + self._busy)

    @property
    def _rows(self) -> int:
        completions = self._completions
        return 0 if completions is None else len(completions)

    async def start(self) -> None:
        """Starts the thread, which loads the models unless they are loaded already.

        Raises:
            LayerBridgeError: loading failed.
        """
        assert self._thread is None, "already started"
        if self._lost is not None:
            raise EngineDownError(self._lost)
        self._state, self._stopping = "starting", False
        self._loop = asyncio.get_running_loop()
        ready = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name=f"{THREAD} torch engine", daemon=True
        )
        self._thread.start()
        try:
            await ready
        except BaseException:
            self._thread = None
            self._state = "down"
            raise
        self._state = "ready"

    async def stop(self) -> None:
        """Stops; requests that are still running raise ``EngineDownError``."""
        thread, self._thread = self._thread, None
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if thread is not None:
            await asyncio.to_thread(thread.join, STOP_S)
            if thread.is_alive():
                self._lost = f"the engine's thread did not stop within {STOP_S:g} s"
                LOG.error("%s", self._lost)
                self._abandon("the engine was stopped")
        self._state = "down"

    def _abandon(self, reason: str) -> None:
        """Goes down; everybody who waits is told so."""
        with self._changed:
            self._state = "down"
            lost = list(self._open)
            self._prompts.clear()
            self._queries.clear()
        self._send((job, EngineDownError(reason)) for job in lost)

    async def _write(self, prompt: Prompt) -> AsyncIterator[Event]:
        event = None
        with self._submitted(self._prompts, prompt) as job:
            while not isinstance(event, Finished):
                event = await job.result()
                yield event

    async def _rank(self, question: Question) -> Ranking:
        with self._submitted(self._queries, question) as job:
            ranking: Ranking = await job.result()
        return ranking

    async def layer_weights(self, bridge: str, text: str) -> LayerWeights:
        """Implements ``Engine.layer_weights``."""
        with self._submitted(self._queries, Prompt(bridge, text)) as job:
            weights: LayerWeights = await job.result()
        return weights

    @contextmanager
    def _submitted(self, queue: deque[Job], request: Any) -> Iterator[Job]:
        """Puts a request into the queue; leaving the context abandons it."""
        job = Job(request)
        with self._changed:
            if self._state != "ready":
                raise EngineDownError("the engine is not running")
            queue.append(job)
            self._open.add(job)
            self._changed.notify()
        try:
            yield job
        finally:
            with self._changed:
                self._open.discard(job)

    # From here on everything runs in the engine's thread.

    def _run(self, ready: asyncio.Future[None]) -> None:
        assert self._loop is not None
        loop = self._loop
        try:
            if self._bridges is None:
                self._bridges = self._load_bridges()
        except BaseException as error:
            loop.call_soon_threadsafe(resolve, ready, error)
            return
        completions = Completions(
            self._bridges, self._on_batch, self._send, self._open.__contains__
        )
        self._completions = completions
        loop.call_soon_threadsafe(resolve, ready, None)
        reason = "the engine was stopped"
        try:
            while self._wait():
                self._run_queries()
                completions.admit(self._take(self._prompts, self._max_batch - len(completions)))
                completions.step()
                self._heap.after_work()
        except BaseException as error:
            LOG.exception("the engine failed")
            reason = "the engine failed"
            if isinstance(error, LostDeviceError):
                self._lost = str(error)
        finally:
            self._completions, self._busy = None, 0
            self._abandon(reason)

    def _wait(self) -> bool:
        """Waits for work; returns False to stop."""
        with self._changed:
            if self._rows or self._stopping:
                return not self._stopping
            while not (self.load.waiting or self._stopping):
                self._changed.wait(self._heap.when_idle())
            # More requests may arrive at the same moment.
            deadline = time.monotonic() + self._wait_s
            while not self._stopping and self.load.waiting < self._max_batch:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return not self._stopping

    def _take(self, queue: deque[Job], limit: int) -> list[Job]:
        jobs: list[Job] = []
        with self._changed:
            while queue and len(jobs) < limit:
                job = queue.popleft()
                if job in self._open:
                    jobs.append(job)
        return jobs

    def _run_queries(self) -> None:
        """Runs classifications and layer weights; those that differ only in text as one batch."""
        jobs = self._take(self._queries, self._max_batch)
        groups: dict[Any, list[Job]] = defaultdict(list)
        for job in jobs:
            groups[replace(job.request, text="")].append(job)
        self._busy = len(jobs)
        for request, group in groups.items():
            run = self._classify if isinstance(request, Question) else self._weigh
            for part, results in isolated(group, run, self.bridges.language_model.device):
                each = [results] if isinstance(results, Exception) else results
                self._send(zip(part, each, strict=True))
            self._busy -= len(group)

    def _classify(self, jobs: list[Job]) -> Sequence[Any]:
        """Returns a ranking or an exception for each job."""
        question: Question = jobs[0].request
        bridge = self.bridges[question.bridge]
        texts = [job.request.text for job in jobs]
        try:
            options = Options(bridge, question)
        except LayerBridgeError as error:
            return [error] * len(jobs)
        results: dict[int, Any] = {}
        lengths = self.bridges.prompt_tokens(question.bridge, texts, question.instruction)
        for index, length in enumerate(lengths):
            try:
                self.bridges.max_new_tokens(length, options.longest)
            except LayerBridgeError as error:
                results[index] = error
        fitting = [index for index in range(len(jobs)) if index not in results]
        if fitting:
            self._on_batch("classify", len(fitting))
            states = bridge.encode(*texts_of([jobs[index].request for index in fitting]))
            rows = bridge.option_scores(states, options.ids, question.instruction).cpu()
            for index, scores in zip(fitting, rows, strict=True):
                results[index] = options.ranking(scores, lengths[index])
        return [results[index] for index in range(len(jobs))]

    def _weigh(self, jobs: list[Job]) -> Sequence[Any]:
        """Returns the layer weights for each job."""
        self._on_batch("encode", len(jobs))
        bridge = self.bridges[jobs[0].request.bridge]
        return bridge.layer_weights([job.request.text for job in jobs])

    def _send(self, results: Iterable[tuple[Job, Any]]) -> None:
        """Puts results into their jobs' queues with one call into the event loop."""
        pairs = list(results)
        if not pairs:
            return
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed, so nobody is waiting
            self._loop.call_soon_threadsafe(_put, pairs)


def _put(results: Sequence[tuple[Job, Any]]) -> None:
    for job, result in results:
        job.queue.put_nowait(result)
