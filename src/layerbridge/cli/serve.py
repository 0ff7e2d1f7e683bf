"""``layerbridge serve``: bridges over HTTP, as OpenAI's clients ask, and a page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from layerbridge.serving.engine import Engine, OnBatch

ENGINES = ("auto", "torch", "vllm")


def serve(
    runs: list[str] = typer.Argument(
        ..., help="Runs' folders or hub ids, or NAME=RUN; over one language model."
    ),
    host: str = typer.Option("127.0.0.1", help="Where to listen; 0.0.0.0 lets others in."),
    port: int = typer.Option(8000, min=0, max=65535, help="0 takes a free one."),
    engine: str = typer.Option("auto", help="torch, vllm, or auto: vLLM if it is installed."),
    dtype: str = typer.Option("auto", help="Of the backbones."),
    device: str | None = typer.Option(None, help="cpu, cuda, …; the best there is if not given."),
    api_key_file: Path | None = typer.Option(None, help="One key a line; asked for on /v1."),
    cors_origin: list[str] | None = typer.Option(
        None, help="A web page's origin that may ask; may be given again."
    ),
    system: str = typer.Option(
        "instruction", help="What system messages are: instruction, text or ignore."
    ),
    history: str = typer.Option(
        "none", help="Turns before the last: none, or text for the encoder to read."
    ),
    max_batch: int = typer.Option(32, min=1, help="Answers written at a time (torch engine)."),
    max_tokens: int = typer.Option(1024, min=1, help="Of an answer, at most."),
    max_text_chars: int = typer.Option(20_000, min=1, help="Of a text, at most."),
    max_options: int = typer.Option(256, min=1, help="Of a question, at most."),
    max_body_bytes: int = typer.Option(1024 * 1024, min=1, help="Of a request, at most."),
    concurrency: int = typer.Option(64, min=1, help="Answers worked on at once."),
    queue: int = typer.Option(256, min=0, help="Answers that may wait; beyond it is a 429."),
    timeout: float = typer.Option(120.0, min=0.1, help="Seconds a request may take."),
    drain: float = typer.Option(30.0, min=0.0, help="Seconds for running answers at the end."),
    tensor_parallel_size: int = typer.Option(1, min=1, help="GPUs that share a layer (vLLM)."),
    pipeline_parallel_size: int = typer.Option(1, min=1, help="Groups of GPUs (vLLM)."),
    data_parallel_size: int = typer.Option(1, min=1, help="Copies of the model (vLLM)."),
    distributed_executor_backend: str | None = typer.Option(None, help="mp or ray (vLLM)."),
    gpu_memory_utilization: float | None = typer.Option(None, help="0 to 1 (vLLM)."),
    max_model_len: int | None = typer.Option(None, min=1, help="Prompt and answer (vLLM)."),
    max_num_seqs: int | None = typer.Option(None, min=1, help="Answers at a time (vLLM)."),
    enforce_eager: bool = typer.Option(False, "--enforce-eager", help="No compiling (vLLM)."),
    vllm_option: list[str] | None = typer.Option(
        None, help="Any other of its engine arguments, NAME=VALUE; may be given again."
    ),
    trust_remote_code: bool = typer.Option(False, "--trust-remote-code"),
    allow_pickle: bool = typer.Option(False, "--allow-pickle"),
) -> None:
    """Serve bridges: OpenAI's routes under /v1, a page at /.

    The address is printed on stdout when it is ready. See docs/serving.md.
    """
    from layerbridge.errors import ConfigError
    from layerbridge.models.backbone import LoadOptions, choose_device
    from layerbridge.serving.app import create_app
    from layerbridge.serving.bridges import Bridges, names
    from layerbridge.serving.conversation import ChatMapping
    from layerbridge.serving.heap import KERNEL_CACHE, KERNELS
    from layerbridge.serving.keys import Keys
    from layerbridge.serving.limits import Limits
    from layerbridge.serving.metrics import Metrics
    from layerbridge.serving.server import serve as run
    from layerbridge.serving.supervised import Supervised

    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}", allowed=ENGINES)
    os.environ.setdefault(KERNEL_CACHE, KERNELS)
    names(runs)  # says what is wrong with them before anything is read
    place = choose_device(device)
    options = LoadOptions(dtype, None, trust_remote_code, allow_pickle)
    limits = Limits(
        max_body_bytes=max_body_bytes,
        max_text_chars=max_text_chars,
        max_options=max_options,
        max_tokens=max_tokens,
        concurrency=concurrency,
        queue=queue,
        timeout_s=timeout,
    )
    mapping = ChatMapping(system, history)  # type: ignore[arg-type] # it checks them
    keys = Keys.from_file(api_key_file) if api_key_file is not None else None
    metrics = Metrics()

    def load(*, weights: bool) -> Bridges:
        return Bridges.load(runs, options, device=place, weights=weights)

    made: Engine
    if _with_vllm(engine):
        parallel: dict[str, Any] = {
            "tensor_parallel_size": tensor_parallel_size,
            "pipeline_parallel_size": pipeline_parallel_size,
            "data_parallel_size": data_parallel_size,
            "distributed_executor_backend": distributed_executor_backend,
            "gpu_memory_utilization": gpu_memory_utilization,
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "enforce_eager": enforce_eager,
            "extra": _pairs(vllm_option or []),
        }
        made = _vllm(lambda: load(weights=False), parallel, metrics.on_batch)
    else:
        from layerbridge.serving.torch_engine import TorchEngine

        made = TorchEngine(lambda: load(weights=True), metrics.on_batch, max_batch=max_batch)
    supervised = Supervised(made)
    app = create_app(
        supervised,
        limits=limits,
        mapping=mapping,
        keys=keys,
        metrics=metrics,
        cors_origins=cors_origin or (),
    )
    run(app, supervised, host, port, drain_s=drain)


def _with_vllm(engine: str) -> bool:
    if engine != "auto":
        return engine == "vllm"
    from layerbridge.serving.vllm_launch import unavailable_reason

    return unavailable_reason() is None


def _vllm(load: Any, settings: dict[str, Any], on_batch: OnBatch) -> Engine:
    from layerbridge.serving.vllm_engine import VLLMEngine
    from layerbridge.serving.vllm_launch import VLLMSettings

    return VLLMEngine(load, VLLMSettings(**settings), on_batch)


def _pairs(given: list[str]) -> dict[str, Any]:
    """``NAME=VALUE``, the value as YAML has it.

    Raises:
        ConfigError: there is no "=".
    """
    import yaml

    from layerbridge.errors import ConfigError

    pairs = {}
    for pair in given:
        name, mark, value = pair.partition("=")
        if not mark or not name:
            raise ConfigError(
                f"--vllm-option {pair!r} has no value", allowed="NAME=VALUE, such as seed=1"
            )
        pairs[name.replace("-", "_")] = yaml.safe_load(value)
    return pairs
