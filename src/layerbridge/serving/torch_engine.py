"""The embedded engine: continuous batching with torch, in a thread of its own.

Between two decoding steps new prompts are prefilled as one batch and join the running rows; rows
that have finished or whose client has gone are dropped.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from layerbridge.errors import LayerBridgeError
from layerbridge.models.inference import Classification, LayerWeights
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.decoding import Decoding, Row
from layerbridge.serving.engine import EngineDownError, Load, LocalEngine, OnBatch, resolve
from layerbridge.serving.heap import HeapTrimmer
from layerbridge.serving.requests import Event, Finished, Prompt, Question, Started

LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class _Job:
    """A request, and the queue for its results."""

    request: Any
    queue: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    generated: int = 0  # tokens so far
    max_tokens: int = 0

    async def result(self) -> Any:
        """Returns the next result, or raises it."""
        result = await self.queue.get()
        if isinstance(result, BaseException):
            raise result
        return result


@dataclass(eq=False)
class _Batch:
    """Rows that are decoded together."""

    decoding: Decoding
    jobs: list[_Job]


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
        self._prompts: deque[_Job] = deque()
        self._queries: deque[_Job] = deque()  # classifications and layer weights
        self._open: set[_Job] = set()  # jobs that somebody waits for
        self._batches: list[_Batch] = []
        self._busy = 0  # queries in progress
        self._changed = threading.Condition()
        self._stopping = False
        self._can_join = True  # whether batches can be joined; the first one tells
        self._heap = HeapTrimmer()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def load(self) -> Load:
        """The number of waiting and running requests."""
        return Load(len(self._prompts) + len(self._queries), self._rows + self._busy)

    @property
    def _rows(self) -> int:
        return sum(len(batch.jobs) for batch in self._batches)

    async def start(self) -> None:
        """Starts the thread, which loads the models unless they are loaded already.

        Raises:
            LayerBridgeError: loading failed.
        """
        assert self._thread is None, "already started"
        self._state, self._stopping = "starting", False
        self._loop = asyncio.get_running_loop()
        ready = self._loop.create_future()
        # A daemon, as a process that is to end must not wait for a step.
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="torch engine", daemon=True
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
            await asyncio.to_thread(thread.join)
        self._state = "down"

    async def generate(self, prompt: Prompt) -> AsyncIterator[Event]:
        """Implements ``Engine.generate``."""
        event = None
        with self._submitted(self._prompts, prompt) as job:
            while not isinstance(event, Finished):
                event = await job.result()
                yield event

    async def classify(self, question: Question) -> Classification:
        """Implements ``Engine.classify``."""
        with self._submitted(self._queries, question) as job:
            classification: Classification = await job.result()
        return classification

    async def layer_weights(self, bridge: str, text: str) -> LayerWeights:
        """Implements ``Engine.layer_weights``."""
        with self._submitted(self._queries, Prompt(bridge, text)) as job:
            weights: LayerWeights = await job.result()
        return weights

    @contextmanager
    def _submitted(self, queue: deque[_Job], request: Any) -> Iterator[_Job]:
        """Puts a request into the queue; leaving the context abandons it."""
        job = _Job(request)
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
        loop.call_soon_threadsafe(resolve, ready, None)
        reason = "the engine was stopped"
        try:
            while self._wait():
                self._run_queries()
                self._admit()
                for batch in list(self._batches):
                    self._step(batch)
                self._heap.after_work()
        except BaseException:
            # Out of memory, a lost device: the state of running requests cannot be trusted.
            LOG.exception("the engine failed")
            reason = "the engine failed"
        finally:
            with self._changed:
                self._state = "down"
                lost = list(self._open)
                self._prompts.clear()
                self._queries.clear()
            self._batches, self._busy = [], 0
            self._send((job, EngineDownError(reason)) for job in lost)

    def _wait(self) -> bool:
        """Waits for work; returns False to stop."""
        with self._changed:
            if self._batches or self._stopping:
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

    def _take(self, queue: deque[_Job], limit: int) -> list[_Job]:
        jobs: list[_Job] = []
        with self._changed:
            while queue and len(jobs) < limit:
                job = queue.popleft()
                if job in self._open:
                    jobs.append(job)
        return jobs

    def _run_queries(self) -> None:
        """Runs classifications and layer weights; those that differ only in text as one batch."""
        jobs = self._take(self._queries, self._max_batch)
        groups: dict[Any, list[_Job]] = defaultdict(list)
        for job in jobs:
            groups[replace(job.request, text="")].append(job)
        self._busy = len(jobs)
        for group in groups.values():
            try:
                results: Sequence[Any] = self._results([job.request for job in group])
            except LayerBridgeError as error:
                results = [error] * len(group)
            self._send(zip(group, results, strict=True))
            self._busy -= len(group)

    def _results(self, requests: Sequence[Question | Prompt]) -> Sequence[Any]:
        first, texts = requests[0], [request.text for request in requests]
        bridge = self.bridges[first.bridge]
        if isinstance(first, Question):
            self._on_batch("classify", len(texts))
            options = None if first.options is None else list(first.options)
            return bridge.classify(
                texts, options, instruction=first.instruction, length_normalization=first.normalize
            )
        self._on_batch("encode", len(texts))
        return bridge.layer_weights(texts)

    def _admit(self) -> None:
        """Prefills as many waiting prompts as there are free rows."""
        waiting = self._take(self._prompts, self._max_batch - self._rows)
        if not waiting:
            return
        self._on_batch("encode", len(waiting))
        embeds, jobs = [], []
        rows = self.bridges.embeds([job.request for job in waiting])
        for job, row in zip(waiting, rows, strict=True):
            try:
                room = self.bridges.max_new_tokens(len(row))
            except LayerBridgeError as error:
                self._send([(job, error)])
                continue
            limit = job.request.sampling.max_tokens
            job.max_tokens = limit if room is None else min(limit, room)
            embeds.append(row)
            jobs.append(job)
        if not jobs:
            return
        self._send((job, Started(len(row))) for job, row in zip(jobs, embeds, strict=True))
        # Batches that cannot be joined would be decoded one by one, so they are kept large.
        batches = [list(range(len(jobs)))]
        if self._can_join:
            batches = self.bridges.batches([len(row) for row in embeds])
        for indices in batches:
            self._on_batch("prefill", len(indices))
            own = [jobs[index] for index in indices]
            inputs = [embeds[index] for index in indices]
            started = [Row(job.request.sampling) for job in own]
            self._add(_Batch(Decoding(self.bridges.language_model, inputs, started), own))

    def _add(self, new: _Batch) -> None:
        """Joins the batch with another one if their caches allow it."""
        self._can_join = new.decoding.can_join
        for batch in self._batches:
            if batch.decoding.can_join and new.decoding.can_join:
                batch.decoding.join(new.decoding)
                batch.jobs += new.jobs
                return
        self._batches.append(new)

    def _step(self, batch: _Batch) -> None:
        """Generates a token for every row; drops rows that have finished or are abandoned."""
        self._on_batch("decode", len(batch.jobs))
        stop_ids = set(self.bridges.language_model.stop_token_ids())
        events: list[tuple[_Job, Any]] = []
        kept = []
        tokens = batch.decoding.sample()
        for index, (job, token) in enumerate(zip(batch.jobs, tokens, strict=True)):
            if job not in self._open:
                continue
            if token.id in stop_ids and not job.request.sampling.ignore_eos:
                events.append((job, Finished("stop")))
                continue
            job.generated += 1
            events.append((job, token))
            if job.generated >= job.max_tokens:
                events.append((job, Finished("length")))
            else:
                kept.append(index)
        self._send(events)
        batch.jobs = [batch.jobs[index] for index in kept]
        if not kept:
            self._batches.remove(batch)
            return
        batch.decoding.keep(kept)
        batch.decoding.advance([tokens[index].id for index in kept])

    def _send(self, results: Iterable[tuple[_Job, Any]]) -> None:
        """Puts results into their jobs' queues with one call into the event loop."""
        pairs = list(results)
        if not pairs:
            return
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed, so nobody is waiting
            self._loop.call_soon_threadsafe(_put, pairs)


def _put(results: Sequence[tuple[_Job, Any]]) -> None:
    for job, result in results:
        job.queue.put_nowait(result)
