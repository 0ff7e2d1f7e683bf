"""The embedded engine: torch in a thread of its own, which reads what arrives together together.

Between two steps new prompts are read as one batch and put beside the rows that are being written;
rows that are done or whose reader has gone are dropped. It knows bridges and rows, no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from layerbridge.errors import LayerBridgeError
from layerbridge.models.inference import Classification, LayerWeights
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.decoding import Decoding, Row
from layerbridge.serving.engine import EngineDown, Load, LocalEngine, OnBatch, unless_done
from layerbridge.serving.heap import Heap
from layerbridge.serving.requests import Ask, Begun, Event, Finished, Question

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TorchSettings:
    """How much it does at a time.

    Attributes:
        max_batch: rows, at most.
        wait_ms: how long an idle engine waits for company for what has arrived.
    """

    max_batch: int = 32
    wait_ms: float = 3.0


@dataclass(eq=False)
class _Job:
    """Something that was asked, and where the answer goes."""

    asked: Any
    queue: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    left: bool = False  # whether nobody reads the answer any more
    written: int = 0  # tokens of the answer
    room: int = 0  # tokens that it may have at most


@dataclass(eq=False)
class _Writing:
    """Rows that are written together."""

    decoding: Decoding
    jobs: list[_Job]


class TorchEngine(LocalEngine):
    """Answers with the models in this process.

    Args:
        load: reads the bridges; called by ``start``, in the engine's thread.
        settings: how much it does at a time.
        on_batch: told of every pass.
    """

    name = "torch"

    def __init__(
        self,
        load: Callable[[], Bridges],
        settings: TorchSettings | None = None,
        on_batch: OnBatch | None = None,
    ) -> None:
        super().__init__(load, on_batch)
        self.settings = settings or TorchSettings()
        self._asks: deque[_Job] = deque()
        self._others: deque[_Job] = deque()
        self._open: set[_Job] = set()  # whose answer somebody waits for, wherever they are
        self._writing: list[_Writing] = []
        self._busy = 0  # classifications and weights that are being worked out
        self._arrived = threading.Condition()
        self._ending = False
        self._joins = True  # whether rows of several passes can; the first pass tells
        self._heap = Heap()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def load(self) -> Load:
        """How much it has to do."""
        running = sum(len(writing.jobs) for writing in self._writing) + self._busy
        return Load(len(self._asks) + len(self._others), running)

    async def start(self) -> None:
        """Reads the models, unless they are read already, and begins to answer.

        Raises:
            LayerBridgeError: as the loading does.
        """
        assert self._thread is None, "it has been started"
        self._state, self._ending = "starting", False
        self._loop = asyncio.get_running_loop()
        ready = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="torch engine")
        # A process that is told to end must not wait for a step.
        self._thread.daemon = True
        self._thread.start()
        try:
            await ready
        except BaseException:
            self._thread = None
            self._state = "down"
            raise
        self._state = "ready"

    async def stop(self) -> None:
        """Ends it; what is still running raises ``EngineDown``."""
        thread, self._thread = self._thread, None
        with self._arrived:
            self._ending = True
            self._arrived.notify()
        if thread is not None:
            await asyncio.to_thread(thread.join)
        self._state = "down"

    async def generate(self, ask: Ask) -> AsyncIterator[Event]:
        """As ``Engine.generate``."""
        job = self._submit(self._asks, ask)
        try:
            while True:
                event = await job.queue.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            self._leave(job)

    async def classify(self, question: Question) -> Classification:
        """As ``Engine.classify``."""
        answer = await self._other(question)
        assert isinstance(answer, Classification)
        return answer

    async def layer_weights(self, bridge: str, text: str) -> LayerWeights:
        """As ``Engine.layer_weights``."""
        answer = await self._other(Ask(bridge, text))
        assert isinstance(answer, LayerWeights)
        return answer

    async def _other(self, asked: Question | Ask) -> Any:
        job = self._submit(self._others, asked)
        try:
            answer = await job.queue.get()
        finally:
            self._leave(job)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _submit(self, line: deque[_Job], asked: Any) -> _Job:
        job = _Job(asked)
        with self._arrived:
            if self._state != "ready":
                raise EngineDown("the engine is not running")
            line.append(job)
            self._open.add(job)
            self._arrived.notify()
        return job

    def _leave(self, job: _Job) -> None:
        job.left = True
        with self._arrived:
            self._open.discard(job)

    # From here on everything runs in the engine's own thread.

    def _run(self, ready: asyncio.Future[None]) -> None:
        assert self._loop is not None
        loop = self._loop
        try:
            if self._bridges is None:
                self._bridges = self._load_bridges()
        except BaseException as error:
            loop.call_soon_threadsafe(unless_done(ready.set_exception), error)
            return
        loop.call_soon_threadsafe(unless_done(ready.set_result), None)
        reason = "the engine was stopped"
        try:
            while self._wait():
                self._answer_others()
                self._admit()
                for writing in list(self._writing):
                    self._step(writing)
                self._heap.worked()
        except BaseException:
            # Out of memory, a device that is gone: nothing that is running can be trusted.
            LOG.exception("the engine failed")
            reason = "the engine failed"
        finally:
            with self._arrived:
                self._state = "down"
                lost = list(self._open)
                self._asks.clear()
                self._others.clear()
            self._writing, self._busy = [], 0
            self._tell((job, EngineDown(reason)) for job in lost)

    def _wait(self) -> bool:
        """Until there is something to do; false when it is to end."""
        with self._arrived:
            if self._writing or self._ending:
                return not self._ending
            while not (self._asks or self._others or self._ending):
                self._arrived.wait(self._heap.rested())
            # An idle engine waits a moment for company.
            until = time.monotonic() + self.settings.wait_ms / 1000
            while (
                not self._ending and len(self._asks) + len(self._others) < self.settings.max_batch
            ):
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._arrived.wait(left)
            return not self._ending

    def _take(self, line: deque[_Job], most: int) -> list[_Job]:
        taken: list[_Job] = []
        with self._arrived:
            while line and len(taken) < most:
                job = line.popleft()
                if not job.left:
                    taken.append(job)
        return taken

    def _answer_others(self) -> None:
        """Classifications and weights that can be worked out together, a batch of each."""
        jobs = self._take(self._others, self.settings.max_batch)
        groups: dict[Any, list[_Job]] = defaultdict(list)
        for job in jobs:
            groups[_kind(job.asked)].append(job)
        self._busy = len(jobs)
        for of_kind in groups.values():
            try:
                answers: Sequence[Any] = self._answers([job.asked for job in of_kind])
            except LayerBridgeError as error:
                answers = [error] * len(of_kind)
            self._tell(zip(of_kind, answers, strict=True))
            self._busy -= len(of_kind)

    def _answers(self, asked: Sequence[Question | Ask]) -> Sequence[Any]:
        first, texts = asked[0], [one.text for one in asked]
        bridge = self.bridges[first.bridge]
        if isinstance(first, Question):
            self._on_batch("classify", len(asked))
            options = None if first.options is None else list(first.options)
            return bridge.classify(
                texts,
                options,
                instruction=first.instruction,
                length_normalization=first.normalize,
            )
        self._on_batch("encode", len(asked))
        return bridge.layer_weights(texts)

    def _admit(self) -> None:
        """Reads the prompts of as many of those who wait as there is room for."""
        free = self.settings.max_batch - sum(len(writing.jobs) for writing in self._writing)
        jobs = self._take(self._asks, free)
        if not jobs:
            return
        self._on_batch("encode", len(jobs))
        prompts, admitted = [], []
        for job, prompt in zip(jobs, self.bridges.embeds([job.asked for job in jobs]), strict=True):
            try:
                room = self.bridges.room(len(prompt))
            except LayerBridgeError as error:
                self._tell([(job, error)])
                continue
            most = job.asked.sampling.max_tokens
            job.room = most if room is None else min(most, room)
            prompts.append(prompt)
            admitted.append(job)
        if not admitted:
            return
        self._tell((job, Begun(len(prompt))) for job, prompt in zip(admitted, prompts, strict=True))
        lengths = [len(prompt) for prompt in prompts]
        # Rows that cannot join those of another pass would be alone with it to their end.
        together = self.bridges.passes(lengths) if self._joins else [list(range(len(prompts)))]
        for places in together:
            own = [admitted[place] for place in places]
            self._on_batch("prefill", len(own))
            rows = [Row(job.asked.sampling) for job in own]
            read = [prompts[place] for place in places]
            self._begin(_Writing(Decoding(self.bridges.language_model, read, rows), own))

    def _begin(self, new: _Writing) -> None:
        """Goes on with these rows, beside others if their memories can be put together."""
        self._joins = new.decoding.joins
        for writing in self._writing:
            if writing.decoding.joins and new.decoding.joins:
                writing.decoding.join(new.decoding)
                writing.jobs += new.jobs
                return
        self._writing.append(new)

    def _step(self, writing: _Writing) -> None:
        """A token more for every row; rows that end, or that nobody reads, leave."""
        self._on_batch("decode", len(writing.jobs))
        ends = set(self.bridges.language_model.stop_token_ids())
        told: list[tuple[_Job, Any]] = []
        stay = []
        chosen = writing.decoding.choose()
        for place, (job, token) in enumerate(zip(writing.jobs, chosen, strict=True)):
            if job.left:
                continue
            if token.id in ends and not job.asked.sampling.ignore_eos:
                told.append((job, Finished("stop")))
                continue
            job.written += 1
            told.append((job, token))
            if job.written >= job.room:
                told.append((job, Finished("length")))
            else:
                stay.append(place)
        self._tell(told)
        writing.jobs = [writing.jobs[place] for place in stay]
        if not stay:
            self._writing.remove(writing)
            return
        writing.decoding.keep(stay)
        writing.decoding.advance([chosen[place].id for place in stay])

    def _tell(self, answers: Iterable[tuple[_Job, Any]]) -> None:
        """Hands events to those who wait for them: one call into the event loop for all."""
        told = list(answers)
        if not told:
            return
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: nobody is waiting
            self._loop.call_soon_threadsafe(_put, told)


def _put(told: Sequence[tuple[_Job, Any]]) -> None:
    for job, event in told:
        job.queue.put_nowait(event)


def _kind(asked: Question | Ask) -> Any:
    """Alike for what can be worked out together."""
    if isinstance(asked, Question):
        return asked.bridge, asked.options, asked.instruction, asked.normalize
    return asked.bridge
