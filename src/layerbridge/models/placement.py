"""Where backbones are: on one device, spread over several, or each on its own.

accelerate's hooks run each part of a spread model on its device and bring what the model returns
back to the first; a bridge's own tensors are where the language model takes its input.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.quantization_config import QuantizationMethod

from layerbridge.errors import ConfigError

# Maps that accelerate makes itself.
MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
BACKBONES = ("encoder", "language_model")


def check_map(device_map: Any) -> None:
    """Checks the ``device_map`` of both backbones, or of each.

    Raises:
        ConfigError: it is no map.
    """
    parts = device_map.items() if isinstance(device_map, Mapping) else [(BACKBONES[0], device_map)]
    for backbone, part in parts:
        named = part is None or (isinstance(part, Mapping) and part)
        if backbone not in BACKBONES or not (named or part in MAPS or _is_device(part)):
            raise ConfigError(
                f"device_map={device_map!r} is no map",
                allowed=f"{', '.join(MAPS)}, a device, or one of these or a map of modules to "
                "devices for each of encoder and language_model",
            )


def _is_device(name: Any) -> bool:
    try:
        torch.device(name)
    except (RuntimeError, TypeError):
        return False
    return True


def input_device(model: PreTrainedModel) -> torch.device:
    """Returns the device that a model takes its input on."""
    try:
        embeddings = model.get_input_embeddings()
        # The weights of an offloaded part are elsewhere while it does not run.
        hook = getattr(embeddings, "_hf_hook", None)
        device = getattr(hook, "execution_device", None)
        return embeddings.weight.device if device is None else torch.device(device)
    except (AttributeError, NotImplementedError):  # CANINE hashes characters
        return model.device


def put(model: PreTrainedModel, device: Any, device_map: Any) -> PreTrainedModel:
    """Moves a loaded model to its device; one that was loaded with a map stays where it is."""
    if device_map is None:
        return model.to(device or "cpu")
    if getattr(model, "hf_device_map", None) is None:  # only of several devices it is set
        model.hf_device_map = {"": input_device(model)}
    return model


def stays(model: PreTrainedModel) -> bool:
    """Returns whether a model was put on its devices as it was loaded, and cannot be moved."""
    return getattr(model, "hf_device_map", None) is not None


class Placed(nn.Module):
    """A backbone that stays where its map put it, whatever the bridge around it is moved to."""

    model: PreTrainedModel

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        return self if stays(self.model) else super()._apply(fn, recurse)


@contextmanager
def offloaded(model: PreTrainedModel) -> Iterator[None]:
    """Keeps a model on the CPU while it is active, to free a GPU's memory; it can still run."""
    device = input_device(model)
    spread = len(set(getattr(model, "hf_device_map", {"": device}).values())) > 1
    # GPTQ's and others' are made for one kind of device.
    method = getattr(model, "quantization_method", None)
    fixed = getattr(model, "is_quantized", False) and method != QuantizationMethod.BITS_AND_BYTES
    if device.type == "cpu" or spread or fixed:
        yield
        return
    model.to("cpu")
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        yield
    finally:
        model.to(device)
