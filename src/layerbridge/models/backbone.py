"""Loading frozen backbones: device, dtype, weight format and errors, for both kinds alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from layerbridge.errors import BackboneError, ConfigError
from layerbridge.hub.access import HubAccess
from layerbridge.hub.quiet import quiet_transformers
from layerbridge.hub.sources import Source
from layerbridge.models.cpu_speed import bfloat16_is_faster

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadOptions:
    """How backbones are loaded.

    Args:
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"`` (or torch's), or ``"auto"``: bfloat16
            where the device is faster with it, else float32.
        attn_implementation: as in transformers; None takes its default.
        trust_remote_code: run code that comes with a model.
        allow_pickle: also read ``pytorch_model.bin``.
        device: where the model is put; None is the CPU.
        token: of the hub, as ``HubAccess`` has it.
        cache_dir: of the hub's downloads.
        local_files_only: ask no network.
    """

    dtype: str | torch.dtype = "auto"
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    device: str | torch.device | None = None
    token: str | bool | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False

    @property
    def access(self) -> HubAccess:
        """Returns how the hub is asked."""
        return HubAccess(self.token, self.cache_dir, self.local_files_only)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Returns the dtype on this device.

        Raises:
            ConfigError: the name is unknown.
        """
        return resolve_dtype(self.dtype, self.device)

    def for_transformers(self, source: Source) -> dict[str, Any]:
        """Returns the keyword arguments of a model's ``from_pretrained``."""
        return {
            **self.for_metadata(source),
            "dtype": self.torch_dtype,
            "attn_implementation": self.attn_implementation,
            "use_safetensors": None if self.allow_pickle else True,
        }

    def for_metadata(self, source: Source) -> dict[str, Any]:
        """Returns the keyword arguments of ``from_pretrained`` of a config or tokenizer."""
        return {
            "revision": source.revision or "main",
            "trust_remote_code": self.trust_remote_code,
            **self.access.arguments(),
        }


def resolve_dtype(
    dtype: str | torch.dtype, device: str | torch.device | None = None
) -> torch.dtype:
    """Returns the dtype of that name.

    Args:
        dtype: as in ``LoadOptions``.
        device: that the models will run on, for ``"auto"``; None is the CPU.

    Raises:
        ConfigError: the name is unknown.
    """
    if isinstance(dtype, torch.dtype):
        dtype = dtype_name(dtype)
    if dtype == "auto":
        return torch.bfloat16 if prefers_bfloat16(device) else torch.float32
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}", allowed=("auto", *DTYPES))
    return DTYPES[dtype]


def dtype_name(dtype: torch.dtype) -> str:
    """Returns ``"bfloat16"`` for ``torch.bfloat16``, the inverse of ``resolve_dtype``."""
    return str(dtype).removeprefix("torch.")


def prefers_bfloat16(device: str | torch.device | None) -> bool:
    """Returns whether the device has bfloat16 units; of a CPU, whether bfloat16 is the faster."""
    device = torch.device(device or "cpu")
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bfloat16_is_faster()


def choose_device(device: str | None = None) -> str:
    """Returns ``device``, or the best one: CUDA, else Apple's GPU, else the CPU.

    Raises:
        ConfigError: the device does not exist here.
    """
    if device is not None:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            problem = str(error).splitlines()[0][:120]
            raise ConfigError(
                f"device {device!r} is not available ({problem})", allowed="cpu, cuda, mps"
            ) from None
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load(kind: str, source: Source, loader: Callable[[], Any]) -> Any:
    """Runs ``loader``, and turns what transformers raises into one clear line.

    Args:
        kind: ``"encoder"`` or ``"language model"``, for messages.
        source: where the backbone is.
        loader: reads it.

    Raises:
        BackboneError: it cannot be loaded.
    """
    try:
        return loader()
    except BackboneError:
        raise
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        raise _explained(kind, source, error) from error


def load_weights(
    kind: str,
    source: Source,
    cls: Any,
    config: PreTrainedConfig,
    arguments: dict[str, Any],
    *,
    unread: str | None = None,
) -> PreTrainedModel:
    """Runs ``cls.from_pretrained``; transformers would fill missing weights with random numbers.

    Args:
        kind: ``"encoder"`` or ``"language model"``, for messages.
        source: where the weights are.
        cls: an auto class, or a model's.
        config: of the model.
        arguments: of ``from_pretrained``.
        unread: name of a module whose weights may be missing, since nobody reads its output.

    Raises:
        BackboneError: it cannot be loaded, or weights are missing.
    """

    def loader() -> PreTrainedModel:
        with quiet_transformers():
            model, info = cls.from_pretrained(
                source.path, config=config, output_loading_info=True, **arguments
            )
        missing = sorted(k for k in info["missing_keys"] if unread not in k.split("."))
        if missing:
            raise BackboneError(
                f"the {kind} {source.given!r} lacks weights: {missing[0]!r} and "
                f"{len(missing) - 1} more",
                hint="use a complete checkpoint of this architecture",
            )
        return model

    return load(kind, source, loader)


def load_config(kind: str, source: Source, options: LoadOptions) -> PreTrainedConfig:
    """Loads the config of a backbone, which names its architecture."""
    arguments = options.for_metadata(source)
    return load(kind, source, lambda: AutoConfig.from_pretrained(source.path, **arguments))


def load_tokenizer(kind: str, source: Source, options: LoadOptions) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a backbone."""
    arguments = options.for_metadata(source)
    return load(
        f"tokenizer of the {kind}",
        source,
        lambda: AutoTokenizer.from_pretrained(source.path, **arguments),
    )


def freeze(model: PreTrainedModel) -> PreTrainedModel:
    """Puts a model into eval mode, and turns off its gradients."""
    return model.eval().requires_grad_(False)


def _explained(kind: str, source: Source, error: Exception) -> BackboneError:
    text = " ".join(str(error).split())
    if "safetensors" in text and "no file named" in text.lower():
        return BackboneError(
            f"the {kind} {source.given!r} has no safetensors weights",
            allowed="safetensors, or pickled weights if you trust them",
            hint="pass --allow-pickle (allow_pickle=True in Python)",
        )
    if "trust_remote_code" in text:
        return BackboneError(
            f"the {kind} {source.given!r} comes with its own code",
            hint="read that code, then pass --trust-remote-code (trust_remote_code=True)",
        )
    summary = text if len(text) <= 200 else text[:200] + " …"
    return BackboneError(
        f"cannot load the {kind} {source.given!r}: {summary}",
        allowed="a folder, zoo:NAME or a hub id of a transformers model",
    )
