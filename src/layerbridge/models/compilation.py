"""Compiling a backbone layer by layer: its elementwise operations are fused.

Layers of one kind share the compiled code, so that compiling takes seconds where the whole model
would take minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which
from typing import Any

import torch
from transformers import PreTrainedModel

from layerbridge.errors import BackboneError
from layerbridge.models.truncation import found_layers


def compile_layers(model: PreTrainedModel, **settings: Any) -> int:
    """Compiles each layer in place; the results are the same up to rounding.

    The first forward and the first backward pass take about ten seconds longer each.

    Args:
        model: frozen.
        **settings: of ``torch.compile``, such as ``mode``.

    Returns:
        The number of layers.

    Raises:
        BackboneError: there is no compiler for this device, or the layers are not found.
    """
    by_inductor = settings.get("backend", "inductor") == "inductor"
    has_compiler = any(map(which, ("g++", "clang++", "c++")))
    if model.device.type == "cpu" and by_inductor and not has_compiler:
        raise BackboneError(
            "cannot compile layers: no C++ compiler found",
            hint="install g++, or turn compilation off",
        )
    layers = found_layers(model, hint="turn compilation off")
    for layer in layers:
        layer.compile(**{"dynamic": True, **settings})
    return len(layers)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Runs compiled layers uncompiled while it is active.

    With a key-value cache, which knows each layer by its index, every layer would be compiled.
    """
    with torch.compiler.set_stance("force_eager"):
        yield
