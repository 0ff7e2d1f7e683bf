"""Loading frozen backbones: dtype, weights format and the errors both kinds share.

It knows nothing of encoders or language models; ``encoder.py`` and ``language_model.py`` do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from layerbridge.errors import BackboneError, ConfigError
from layerbridge.hub.sources import Source

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadOptions:
    """How backbones are read.

    Args:
        dtype: ``"auto"``, ``"float32"``, ``"bfloat16"``, ``"float16"``.
        attn_implementation: as in transformers; None takes its default.
        trust_remote_code: run code that comes with a hub model. Off unless the user says so.
        allow_pickle: also read ``pytorch_model.bin``. Off unless the user says so.
    """

    dtype: str = "auto"
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False

    def for_transformers(self, source: Source) -> dict[str, Any]:
        """Keyword arguments of ``from_pretrained``."""
        return {
            "revision": source.revision or "main",
            "dtype": resolve_dtype(self.dtype),
            "attn_implementation": self.attn_implementation,
            "trust_remote_code": self.trust_remote_code,
            "use_safetensors": None if self.allow_pickle else True,
        }


def resolve_dtype(dtype: str) -> torch.dtype:
    """``"auto"`` is bfloat16 where the hardware multiplies it natively, else float32.

    A CPU without bfloat16 units emulates it: on such a machine it was measured 7 times slower
    than float32 (docs/method.md), so it is never chosen there unasked.
    """
    if dtype == "auto":
        return torch.bfloat16 if bfloat16_is_native() else torch.float32
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}", allowed=("auto", *DTYPES))
    return DTYPES[dtype]


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.bfloat16`` → ``"bfloat16"``: as ``resolve_dtype`` takes it and results have it."""
    return str(dtype).removeprefix("torch.")


def bfloat16_is_native() -> bool:
    """Whether this machine has a GPU with bfloat16, or a CPU with units for it."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.mps.is_available():
        return False
    return any(
        getattr(torch.cpu, name, lambda: False)()
        for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    )


def choose_device(device: str | None = None) -> str:
    """``device``, or the best there is: CUDA, else Apple's, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    if device is not None:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            problem = str(error).splitlines()[0][:120]
            raise ConfigError(
                f"the device {device!r} cannot be used here ({problem})", allowed="cpu, cuda, mps"
            ) from None
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load(what: str, source: Source, loader: Callable[[], Any]) -> Any:
    """Runs ``loader``, turning what transformers raises for a bad id into one clear line."""
    try:
        return loader()
    except BackboneError:
        raise
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        _explain(what, source, error)


def load_weights(
    what: str, source: Source, cls: Any, config: PreTrainedConfig, arguments: dict[str, Any]
) -> PreTrainedModel:
    """``cls.from_pretrained``, which must find every weight that the model has.

    transformers fills what is missing with random numbers and says so in a report among others;
    a frozen backbone of random numbers is no backbone.
    """

    def loader() -> PreTrainedModel:
        with _quiet():
            model, info = cls.from_pretrained(
                source.path, config=config, output_loading_info=True, **arguments
            )
        missing = sorted(info["missing_keys"])
        if missing:
            raise BackboneError(
                f"the {what} {source.given!r} lacks weights: {missing[0]!r} and {len(missing) - 1} "
                "more",
                hint="use a complete checkpoint of this architecture",
            )
        return model

    return load(what, source, loader)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars or reports while small files are read; errors still speak."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def load_config(what: str, source: Source, options: LoadOptions) -> PreTrainedConfig:
    """The config of a backbone, which tells its kind before any weight is read."""
    return load(
        what,
        source,
        lambda: AutoConfig.from_pretrained(
            source.path,
            revision=source.revision or "main",
            trust_remote_code=options.trust_remote_code,
        ),
    )


def load_tokenizer(what: str, source: Source, options: LoadOptions) -> PreTrainedTokenizerBase:
    """The tokenizer beside a backbone."""
    return load(
        f"tokenizer of the {what}",
        source,
        lambda: AutoTokenizer.from_pretrained(
            source.path,
            revision=source.revision or "main",
            trust_remote_code=options.trust_remote_code,
        ),
    )


def freeze(model: PreTrainedModel) -> PreTrainedModel:
    """Eval mode, and no parameter takes a gradient."""
    return model.eval().requires_grad_(False)


def _explain(what: str, source: Source, error: Exception) -> NoReturn:
    text = " ".join(str(error).split())
    if "safetensors" in text and "no file named" in text.lower():
        raise BackboneError(
            f"the {what} {source.given!r} has no safetensors weights",
            allowed="safetensors, or pickled weights if you trust them",
            hint="pass --allow-pickle (allow_pickle=True in Python)",
        ) from error
    if "trust_remote_code" in text:
        raise BackboneError(
            f"the {what} {source.given!r} comes with code of its own",
            hint="read that code, then pass --trust-remote-code (trust_remote_code=True)",
        ) from error
    summary = text if len(text) <= 200 else text[:200] + " …"
    raise BackboneError(
        f"cannot load the {what} {source.given!r}: {summary}",
        allowed="a folder, zoo:NAME or a hub id of a transformers model",
    ) from error
