"""Compiling a backbone's layers: the elementwise work between its matrix products, fused.

One layer's code is compiled once and serves all of the same kind, so that it takes seconds where
the whole model would take minutes. It knows nothing of what the model is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which
from typing import Any

import torch
from transformers import PreTrainedModel

from layerbridge.errors import BackboneError
from layerbridge.models.truncation import layer_list


def compile_layers(model: PreTrainedModel, **settings: Any) -> int:
    """``torch.compile`` on each of a model's layers, in place; the same numbers but for rounding.

    The first pass forward and the first pass backward take some ten seconds more each.

    Args:
        model: frozen.
        **settings: of ``torch.compile``, such as ``mode``.

    Returns:
        How many layers there are.

    Raises:
        BackboneError: there is no compiler for this device, or the model has no list of layers.
    """
    by_inductor = settings.get("backend", "inductor") == "inductor"
    has_compiler = any(map(which, ("g++", "clang++", "c++")))
    if model.device.type == "cpu" and by_inductor and not has_compiler:
        raise BackboneError(
            "layers cannot be compiled: there is no C++ compiler",
            hint="install g++, or leave compiling out",
        )
    found = layer_list(model)
    if found is None:
        raise BackboneError(
            f"the layers of a {model.config.model_type!r} model are not known",
            hint="leave compiling out",
        )
    _, layers = found
    for layer in layers:
        layer.compile(**{"dynamic": True, **settings})
    return len(layers)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Within it compiled layers run as they were written.

    A key-value cache knows each layer by its number, and code would be compiled for every one.
    """
    with torch.compiler.set_stance("force_eager"):
        yield
