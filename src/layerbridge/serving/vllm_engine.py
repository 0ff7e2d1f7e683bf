"""The vLLM engine: encoder and bridges in this process, the language model in vLLM's.

    prompts → batches of the encoder → prompt embeddings → vLLM's continuous batching

The embeddings are made here and never taken from a request, as they could crash vLLM.
Legend: T LM tokens, D LM width.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import ConfigError, LayerBridgeError
from layerbridge.models.inference import LayerWeights
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.cores import bind_thread
from layerbridge.serving.engine import (
    EngineDownError,
    Load,
    LocalEngine,
    OnBatch,
    State,
)
from layerbridge.serving.heap import IDLE_DELAY_S, HeapTrimmer, WorkerHeap, trim
from layerbridge.serving.labels import Ranking
from layerbridge.serving.options import Options, prefixes_of
from layerbridge.serving.requests import (
    Event,
    Finished,
    Prompt,
    Question,
    Sampling,
    Started,
    Token,
)
from layerbridge.serving.text_encoder import TextEncoder
from layerbridge.serving.vllm_launch import (
    WORKER_HEAP,
    VLLMSettings,
    cores_for,
    launch,
    shut_down,
    unavailable_reason,
)
from layerbridge.serving.worker import Worker

# Positions of the prompts that a classification has in vLLM at a time.
CLASSIFY_TOKENS = 2**15


class VLLMEngine(LocalEngine):
    """Generates with vLLM in processes of its own.

    Args:
        load: loads the bridges without the weights of their language model; called by ``start``.
        settings: of vLLM.
        on_batch: called with every batch of the encoder, and for every classification with its
            number of vLLM requests.

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
        reason = unavailable_reason()
        if reason is not None:
            raise ConfigError(reason)
        super().__init__(load, on_batch)
        self.settings = settings or VLLMSettings()
        self._llm: Any = None
        self._processes: list[BaseProcess] = []
        self._text_encoder: TextEncoder | None = None
        self._trim_due = asyncio.Event()
        self._heap = HeapTrimmer(self._trim_due.set)
        self._trimming: asyncio.Task[None] | None = None
        self._numbers = itertools.count()
        self._request_ids: set[str] = set()  # of the requests in vLLM
        self._started: dict[int, bool] = {}  # by request

    @property
    def state(self) -> State:
        """Whether it is starting, ready or down."""
        encoder = self._text_encoder
        if self._state == "ready" and (
            self._llm.errored or encoder is None or not encoder.is_alive
        ):
            return "down"
        return self._state

    @property
    def lost(self) -> str | None:
        """Why it cannot be started again in this process; None if it can."""
        if self._lost is None and self._text_encoder is not None:
            self._lost = self._text_encoder.lost
        return self._lost

    @property
    def load(self) -> Load:
        """The number of waiting and running requests."""
        running = sum(self._started.values())
        return Load(len(self._started) - running, running)

    async def start(self) -> None:
        """Loads the bridges, unless they are loaded already, and starts vLLM.

        Raises:
            LayerBridgeError: loading failed.
            EngineDownError: vLLM failed to start.
        """
        await self.stop()  # what is left of one that crashed
        if self.lost is not None:
            raise EngineDownError(self.lost)
        self._state = "starting"
        self._text_encoder = encoder = TextEncoder(self._on_batch)
        launcher = Worker("vLLM launch")
        try:
            cores = await launcher.run(cores_for, self.settings)
            if cores is not None:  # before torch starts its helper threads, which stay where it is
                await encoder.run(bind_thread, cores.encoder)
            if self._bridges is None:
                self._bridges = await encoder.run(self._load_bridges)
            encoder.bridges = self._bridges
            arguments = self.settings.arguments(self._bridges)
            self._llm, self._processes = await launcher.run(launch, arguments, cores)
            self._trimming = asyncio.create_task(self._trim_heaps(self._llm))
            await self._warm_up()
        except LayerBridgeError:
            await self.stop()
            raise
        except Exception as error:
            await self.stop()
            raise EngineDownError(f"vLLM failed to start ({error}); see its log") from error
        except BaseException:  # cancelled: a launch in progress ends with the process
            encoder.stop()
            self._state = "down"
            raise
        finally:
            launcher.stop()
        self._state = "ready"

    async def stop(self) -> None:
        """Stops vLLM; requests that are still running raise ``EngineDownError``."""
        self._state = "down"
        llm, self._llm = self._llm, None
        self._lost = self.lost
        encoder, self._text_encoder = self._text_encoder, None
        trimming, self._trimming = self._trimming, None
        if encoder is not None:
            encoder.stop()
        if trimming is not None:
            trimming.cancel()
        if llm is not None:
            with suppress(Exception):  # it may be dead
                await llm.abort(list(self._request_ids))
            await asyncio.to_thread(shut_down, llm, self._processes)

    async def _write(self, prompt: Prompt) -> AsyncIterator[Event]:
        stop_ids = set(self.bridges.language_model.stop_token_ids())
        with self._counted() as count_started:
            embeds = await self._ready_encoder.embeds(prompt)
            sampling = prompt.sampling
            arguments = _sampling_arguments(sampling, self._max_new_tokens(len(embeds)), stop_ids)
            started = False
            async with aclosing(self._outputs(embeds, "DELTA", arguments)) as outputs:
                async for output in outputs:
                    if not started:
                        started = True
                        count_started()
                        yield Started(len(embeds))
                    for token in _tokens(output, sampling):
                        if token.id not in stop_ids or sampling.ignore_eos:
                            yield token
                    if output.finish_reason is not None:
                        yield Finished("stop" if output.finish_reason == "stop" else "length")

    async def _rank(self, question: Question) -> Ranking:
        """Scores the options of a question.

        vLLM has no log-probabilities of a prompt given as embeddings. So each prefix of an option
        is a request for one token, with the option's next token as the only one allowed; its
        log-probability is the model's own. Options with a common prefix share these requests.
        """
        options = await self._ready_encoder.run(Options, self.bridges[question.bridge], question)
        prefixes = list(
            dict.fromkeys(prefix for option in options.ids for prefix in prefixes_of(option))
        )
        logprobs: dict[tuple[int, ...], float] = {}
        with self._counted() as count_started:
            prompt = Prompt(
                question.bridge, question.text, question.instruction, language=question.language
            )
            embeds = await self._ready_encoder.embeds(prompt)
            self._max_new_tokens(len(embeds), options.longest)
            count_started()
            size = max(1, CLASSIFY_TOKENS // (len(embeds) + options.longest))
            for start in range(0, len(prefixes), size):
                part = prefixes[start : start + size]
                self._on_batch("classify", len(part))
                values = await self._logprobs(embeds, part)
                logprobs.update(zip(part, values, strict=True))
        scores = [sum(logprobs[prefix] for prefix in prefixes_of(option)) for option in options.ids]
        return options.ranking(torch.tensor(scores), len(embeds))

    async def _logprobs(
        self, embeds: Float[Tensor, "T D"], prefixes: Sequence[tuple[int, ...]]
    ) -> list[float]:
        """Returns the log-probability of the last token of each prefix."""
        inputs = await self._ready_encoder.run(self._append, embeds, prefixes)
        tasks = [
            asyncio.ensure_future(self._logprob(row, prefix[-1]))
            for row, prefix in zip(inputs, prefixes, strict=True)
        ]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def layer_weights(self, bridge: str, text: str) -> LayerWeights:
        """Implements ``Engine.layer_weights``."""
        results = await self._ready_encoder.run(self.bridges[bridge].layer_weights, [text])
        self._on_batch("encode", 1)
        self._heap.after_work()
        weights: LayerWeights = results[0]
        return weights

    async def _trim_heaps(self, llm: Any) -> None:
        """Trims the heaps of this process and of vLLM's workers when due."""
        workers = llm.vllm_config.parallel_config.worker_extension_cls == WORKER_HEAP
        while True:
            await asyncio.sleep(IDLE_DELAY_S)
            if not self._request_ids:
                self._heap.when_idle()
            if self._trim_due.is_set():
                self._trim_due.clear()
                await asyncio.to_thread(trim)
                if workers:
                    with suppress(Exception):  # it may be dead, which others will notice
                        await llm.collective_rpc(WorkerHeap.trim_heap.__name__)

    async def _warm_up(self) -> None:
        """Lets vLLM compile what its first log-probability needs."""
        language_model = self.bridges.language_model
        end = torch.tensor([language_model.eos_id], device=language_model.device)
        await self._logprob(language_model.embed(end).cpu(), language_model.eos_id)

    @property
    def _ready_encoder(self) -> TextEncoder:
        if self.state != "ready" or self._text_encoder is None:
            raise EngineDownError("the engine is not running")
        return self._text_encoder

    @contextmanager
    def _counted(self) -> Iterator[Callable[[], None]]:
        """Counts a request as waiting and, once the yielded function is called, as running."""
        number = next(self._numbers)
        self._started[number] = False
        try:
            yield lambda: self._started.update({number: True})
        finally:
            del self._started[number]

    def _max_new_tokens(self, prompt_tokens: int, needed: int = 1) -> int:
        """Returns how many tokens fit after a prompt.

        Raises:
            LengthError: fewer than ``needed`` fit.
        """
        if self._llm is None:
            raise EngineDownError("the engine was stopped")
        limit = self._llm.model_config.max_model_len
        room = self.bridges.max_new_tokens(prompt_tokens, needed, limit)
        assert room is not None
        return room

    @torch.no_grad()
    def _append(
        self, embeds: Float[Tensor, "T D"], prefixes: Sequence[tuple[int, ...]]
    ) -> list[Float[Tensor, "n D"]]:
        """Appends all but the last token of each prefix to the prompt."""
        lm = self.bridges.language_model
        inputs = {
            ids: torch.cat(
                [embeds, lm.embed(torch.tensor(ids, dtype=torch.long, device=lm.device)).cpu()]
            )
            for ids in {prefix[:-1] for prefix in prefixes}
        }
        return [inputs[prefix[:-1]] for prefix in prefixes]

    async def _logprob(self, embeds: Float[Tensor, "T D"], token: int) -> float:
        arguments = {
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": 0,
            "allowed_token_ids": [token],
            "ignore_eos": True,
        }
        async with aclosing(self._outputs(embeds, "FINAL_ONLY", arguments)) as outputs:
            async for output in outputs:
                logprob: float = output.logprobs[0][token].logprob
                return logprob
        raise EngineDownError("vLLM returned nothing")

    async def _outputs(
        self, embeds: Float[Tensor, "T D"], kind: str, arguments: Mapping[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Yields vLLM's outputs for one prompt; closing the generator aborts the request.

        Raises:
            EngineDownError: vLLM has died or was stopped.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        llm = self._llm
        if llm is None:
            raise EngineDownError("the engine was stopped")
        sampling = SamplingParams(
            detokenize=False, output_kind=RequestOutputKind[kind], **arguments
        )
        request_id = str(next(self._numbers))
        self._request_ids.add(request_id)
        try:
            with _death_as_engine_down(llm):
                stream = llm.generate({"prompt_embeds": embeds}, sampling, request_id)
                async with aclosing(stream):
                    async for result in stream:
                        output = result.outputs[0]
                        if output.finish_reason not in (None, "stop", "length"):
                            raise EngineDownError("the engine was stopped")
                        yield output
        finally:
            self._request_ids.discard(request_id)
            self._heap.after_work()


def _sampling_arguments(sampling: Sampling, room: int, stop_ids: set[int]) -> dict[str, Any]:
    return {
        "max_tokens": min(sampling.max_tokens, room),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "logprobs": sampling.logprobs,
        "ignore_eos": sampling.ignore_eos,
        "stop_token_ids": [] if sampling.ignore_eos else sorted(stop_ids),
    }


def _tokens(output: Any, sampling: Sampling) -> Iterator[Token]:
    """Yields the tokens of one of vLLM's outputs, the one that ended it included."""
    for index, token in enumerate(output.token_ids):
        if sampling.logprobs is None:
            yield Token(token)
            continue
        # The most likely tokens, and the generated one even if it is none of them.
        logprobs = output.logprobs[index]
        top = sorted(logprobs.items(), key=lambda item: item[1].rank)[: sampling.logprobs]
        yield Token(
            token, logprobs[token].logprob, tuple((other, value.logprob) for other, value in top)
        )


@contextmanager
def _death_as_engine_down(llm: Any) -> Iterator[None]:
    """Raises ``EngineDownError`` for whatever follows the death of vLLM's process."""
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except EngineDeadError as error:
        raise EngineDownError("vLLM has died") from error
    except Exception as error:
        if llm.errored and not isinstance(error, EngineDownError):
            raise EngineDownError("vLLM has died") from error
        raise
