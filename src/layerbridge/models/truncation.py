"""A backbone's list of layers: where it is, and the model with fewer of them.

It knows modules and their number, not what a layer does.
"""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from transformers import PreTrainedModel

Module = TypeVar("Module", bound=nn.Module)


def layer_list(model: PreTrainedModel) -> tuple[str, nn.ModuleList] | None:
    """The path of the list of layers within the model, and the list; None if none is known."""
    depth = model.config.get_text_config().num_hidden_layers
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return path, module
    return None


def truncated(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """A model of the lowest ``layers`` of the model's layers, all modules shared with it.

    The model itself stays as it is, so that another thread may be running it. One whose list of
    layers is not known comes back whole.
    """
    found = layer_list(model)
    if found is None:
        return model
    path, whole = found
    twin = _copy(model)
    owner: nn.Module = twin
    *above, name = path.split(".")
    for step in above:
        child = _copy(getattr(owner, step))
        setattr(owner, step, child)
        owner = child
    setattr(owner, name, whole[:layers])
    return twin


def _copy(module: Module) -> Module:
    twin = copy.copy(module)
    # A shallow copy shares the table of modules as well.
    twin._modules = dict(module._modules)
    return twin
