"""``layerbridge serve``: bridges over HTTP with OpenAI's API, and a page."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from layerbridge.cli import options as o
from layerbridge.cli.values import fields_of, load_options, pairs

if TYPE_CHECKING:
    from layerbridge.serving.engine import Engine

ENGINES = ("auto", "torch", "vllm")

_server = partial(o.option, panel="Server")
_api = partial(o.option, panel="API")
_limit = partial(o.option, panel="Limits")
_vllm = partial(o.option, panel="vLLM engine")


def serve(
    context: typer.Context,
    runs: list[str] = o.argument(
        ..., "RUN", "Folders or hub IDs of bridges that share one language model, or NAME=RUN."
    ),
    host: str = _server("127.0.0.1", "Address to listen on; 0.0.0.0 for all interfaces."),
    port: int = _server(8000, "Port; 0 picks a free one.", min=0, max=65535),
    engine: str = _server("auto", "torch, vllm, or auto (vLLM if installed)."),
    max_batch_size: int = _server(32, "Maximum batch size (torch engine).", min=1),
    drain: float = _server(30.0, "Seconds running requests may finish after SIGTERM.", min=0.0),
    api_key_file: Path | None = _api(None, "File of API keys, one per line; required on /v1."),
    cors_origin: list[str] | None = _api(None, "Allowed CORS origin (repeatable)."),
    system: str = _api("instruction", "System messages: instruction, text or ignore."),
    history: str = _api("none", "Earlier chat turns: none (ignored) or text (encoder input)."),
    max_tokens: int = _limit(1024, "Upper limit for max_tokens.", min=1),
    max_text_chars: int = _limit(20000, "Maximum characters per text.", min=1),
    max_options: int = _limit(256, "Maximum options per classification request.", min=1),
    max_body_bytes: int = _limit(1024 * 1024, "Maximum bytes of a request body.", min=1),
    concurrency: int = _limit(64, "Maximum requests processed at once.", min=1),
    queue: int = _limit(256, "Maximum queued requests; further ones get 429.", min=0),
    max_connections: int = _limit(512, "Maximum open connections; further ones get 503.", min=1),
    timeout: float = _limit(120.0, "Maximum seconds per request.", min=0.1),
    tensor_parallel_size: int = _vllm(1, "GPUs per tensor-parallel group.", min=1),
    pipeline_parallel_size: int = _vllm(1, "Number of pipeline stages.", min=1),
    data_parallel_size: int = _vllm(1, "Number of replicas.", min=1),
    distributed_executor_backend: str | None = _vllm(None, "mp or ray."),
    gpu_memory_utilization: float | None = _vllm(None, "Share of GPU memory to use, 0 to 1."),
    max_model_len: int | None = _vllm(None, "Maximum prompt + completion tokens.", min=1),
    max_num_seqs: int | None = _vllm(None, "Maximum sequences decoded together.", min=1),
    enforce_eager: bool = _vllm(False, "Disable torch.compile and CUDA graphs.", "--enforce-eager"),
    vllm_option: list[str] | None = _vllm(
        None, "Other vLLM engine argument (repeatable).", metavar="NAME=VALUE"
    ),
    dtype: o.Dtype = "auto",
    device: o.Device = None,
    load_in_4bit: o.LoadIn4Bit = False,
    load_in_8bit: o.LoadIn8Bit = False,
    unquantized: o.Unquantized = False,
    device_map: o.DeviceMap = None,
    encoder_device: o.EncoderDevice = None,
    trust_remote_code: o.TrustRemoteCode = False,
    allow_pickle: o.AllowPickle = False,
) -> None:
    """Serve bridges: OpenAI's API under /v1, a page at /.

    Prints the address on stdout when it is ready. See docs/serving.md.
    """
    from layerbridge.errors import ConfigError
    from layerbridge.serving.app import create_app
    from layerbridge.serving.bridges import Bridges, names
    from layerbridge.serving.conversation import ChatMapping
    from layerbridge.serving.heap import KERNEL_CACHE, KERNELS
    from layerbridge.serving.keys import Keys
    from layerbridge.serving.limits import Limits
    from layerbridge.serving.metrics import Metrics
    from layerbridge.serving.server import serve as run
    from layerbridge.serving.supervised import Supervised

    params = context.params
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}", allowed=ENGINES)
    os.environ.setdefault(KERNEL_CACHE, KERNELS)
    names(runs)  # reports wrong names before anything is loaded
    options = load_options(params)
    load = partial(Bridges.load, runs, options, device=str(options.device))
    limits = Limits(**fields_of(Limits, params), timeout_s=timeout)
    mapping = ChatMapping(system, history)  # type: ignore[arg-type] # it checks them
    keys = Keys.from_file(api_key_file) if api_key_file is not None else None
    metrics = Metrics()

    serving: Engine
    if _is_vllm(engine):
        if options.quantization("language_model") not in (None, "none"):
            raise ConfigError(
                "vLLM quantizes the language model itself",
                hint="--vllm-option quantization=bitsandbytes, or --engine torch",
            )
        from layerbridge.serving.vllm_engine import VLLMEngine
        from layerbridge.serving.vllm_launch import VLLMSettings

        extra = vllm_options(vllm_option)
        vllm_settings = VLLMSettings(**fields_of(VLLMSettings, params), extra=extra)
        serving = VLLMEngine(partial(load, weights=False), vllm_settings, metrics.on_batch)
    else:
        from layerbridge.serving.torch_engine import TorchEngine

        serving = TorchEngine(
            partial(load, weights=True), metrics.on_batch, max_batch=max_batch_size
        )
    supervised = Supervised(serving)
    app = create_app(
        supervised,
        limits=limits,
        mapping=mapping,
        keys=keys,
        metrics=metrics,
        cors_origins=cors_origin or (),
    )
    run(app, supervised, host, port, drain_s=drain, has_keys=keys is not None)


def _is_vllm(engine: str) -> bool:
    if engine != "auto":
        return engine == "vllm"
    from layerbridge.serving.vllm_launch import unavailable_reason

    return unavailable_reason() is None


def vllm_options(words: list[str] | None) -> dict[str, object]:
    """Returns vLLM engine arguments from NAME=VALUE words, each value read as YAML."""
    import yaml

    return pairs("--vllm-option", words, yaml.safe_load, "seed=1")
