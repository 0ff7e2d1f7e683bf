"""Frozen backbones in 4 or 8 bits: what was asked for, and what transformers is told.

A choice is ``"4bit"`` or ``"8bit"`` (bitsandbytes, on a GPU and on a CPU), ``"none"``, or a
quantization config of transformers, as an object or as its dictionary. None leaves it to the
checkpoint, which may be quantized itself (GPTQ, AWQ, …), and to a trained bridge's config.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel
from transformers.quantizers.auto import AutoQuantizationConfig
from transformers.utils.quantization_config import QuantizationConfigMixin

from layerbridge.errors import ConfigError, MissingExtraError

NAMED = ("4bit", "8bit")
NONE = "none"
ALLOWED = (
    "4bit, 8bit, none, a quantization config of transformers, or one for each of encoder and "
    "language_model"
)
# Where bitsandbytes runs; it is asked only once it is there.
DEVICES = ("cpu", "cuda", "xpu", "hpu", "npu", "mps")


def is_choice(value: Any) -> bool:
    """Returns whether a value chooses a quantization, or leaves it open."""
    if value is None or value in (*NAMED, NONE):
        return True
    if isinstance(value, QuantizationConfigMixin):
        return True
    return isinstance(value, Mapping) and any(
        name in value for name in ("quant_method", "load_in_4bit", "load_in_8bit")
    )


def check_available(choice: Any, device: str | torch.device | None) -> None:
    """Checks, without loading it, that the package of ``"4bit"`` and ``"8bit"`` is there.

    Args:
        choice: of a backbone.
        device: that it will run on; None is the CPU.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
        ConfigError: it does not run on this device.
    """
    if choice not in NAMED:
        return
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError(
            f"loading models in {choice[0]} bits needs bitsandbytes, which is not installed",
            hint="pip install 'layerbridge[quantize]'",
        )
    kind = torch.device(device or "cpu").type
    if kind not in DEVICES:
        raise ConfigError(
            f"the device {kind!r} cannot run models in {choice[0]} bits",
            allowed=DEVICES,
            hint="another --device, or leave the option out",
        )


def config_of(choice: Any, dtype: torch.dtype) -> QuantizationConfigMixin:
    """Returns the argument ``quantization_config`` of ``from_pretrained``.

    Args:
        choice: not ``"none"``, not None.
        dtype: in which a quantized model computes.

    Raises:
        ConfigError: it is a dictionary that transformers does not know.
    """
    if choice == "4bit":
        # As in QLoRA (arXiv 2305.14314): 4.13 bits for each weight.
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    if choice == "8bit":
        # It says for each layer that the activations are rounded in float16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    if isinstance(choice, Mapping):
        try:
            return AutoQuantizationConfig.from_dict(dict(choice))
        except (ValueError, TypeError, ImportError, AttributeError) as error:
            raise ConfigError(f"invalid quantization_config: {error}") from None
    return choice


def record_of(model: PreTrainedModel) -> str | dict[str, Any] | None:
    """Returns the choice with which a model was loaded, as a bridge's config keeps it.

    None if it was not quantized, or has been in its checkpoint.
    """
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None or quantizer.pre_quantized:
        return None
    settings = quantizer.quantization_config.to_dict()
    dtype = getattr(quantizer.quantization_config, "bnb_4bit_compute_dtype", torch.float32)
    named = (name for name in NAMED if config_of(name, dtype).to_dict() == settings)
    return next(named, settings)


def described(config: PreTrainedConfig) -> str | None:
    """Returns how a loaded model is quantized, such as ``"bitsandbytes 4bit"``; None if not."""
    method, own = own_method(config), getattr(config, "quantization_config", None)
    if method is None:
        return None
    assert own is not None
    settings = own if isinstance(own, Mapping) else own.to_dict()
    bits = next((bits for bits in NAMED if settings.get(f"load_in_{bits}")), None)
    if bits is None and isinstance(settings.get("bits"), int):
        bits = f"{settings['bits']}bit"
    return method if bits is None else f"{method} {bits}"


def own_method(config: PreTrainedConfig) -> str | None:
    """Returns how a checkpoint is quantized itself, such as ``"gptq"``; None if it is not."""
    own = getattr(config, "quantization_config", None)
    if own is None:
        return None
    own = own if isinstance(own, Mapping) else own.to_dict()
    return str(getattr(own.get("quant_method"), "value", own.get("quant_method", "unknown")))
