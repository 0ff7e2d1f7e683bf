"""The weights of a checkpoint that another program wrote, in whichever files it wrote them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from layerbridge.errors import CheckpointError

_FORMS = "a file *.safetensors, *.bin, *.pt or *.pth, or a folder with one or with shards of one"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
# In the order in which they are looked for.
_USUAL = ("model.safetensors", "pytorch_model.bin")
# Where training loops put the weights beside other things.
_INSIDE = ("state_dict", "model_state_dict", "model")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint by name, on the CPU.

    A torch file is read without running anything that is in it (``weights_only``).

    Args:
        path: a file, or a folder with a file or with shards and their index.

    Raises:
        CheckpointError: there are no weights, or they are damaged or more than weights.
    """
    tensors: dict[str, Tensor] = {}
    for file in _files(path):
        tensors |= _safetensors(file) if file.suffix == ".safetensors" else _pickled(file)
    # As written by DataParallel and DeepSpeed.
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix not in (".safetensors", *_PICKLED):
            raise CheckpointError(f"{str(path)!r} is no file of weights", allowed=_FORMS)
        return [path]
    if not path.is_dir():
        raise CheckpointError(f"there is no checkpoint {str(path)!r}", allowed=_FORMS)
    for name in _USUAL:
        index = path / f"{name}.index.json"
        if index.is_file():
            try:
                shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            except (ValueError, KeyError, AttributeError) as error:
                raise CheckpointError(f"{str(index)!r} is damaged ({error})") from None
            return [path / shard for shard in sorted(set(shards))]
        if (path / name).is_file():
            return [path / name]
    found = [file for file in sorted(path.iterdir()) if file.suffix in (".safetensors", *_PICKLED)]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise CheckpointError(
            f"{str(path)!r} has several files of weights or none ({names})",
            allowed=_FORMS,
            hint="name the file" if found else None,
        )
    return found


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{str(file)!r} is damaged or missing ({error})") from None


def _pickled(file: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{str(file)!r} holds more than weights, and reading it could run code",
            allowed="files that torch.load(…, weights_only=True) reads, or safetensors",
            hint="save its state_dict alone, where you trust it",
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{str(file)!r} is damaged or missing ({reason})") from None
    for key in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{str(file)!r} holds no tensors by name", allowed="a state_dict")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
