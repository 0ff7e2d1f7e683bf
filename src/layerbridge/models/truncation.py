"""The list of layers of a backbone, and the model with fewer layers."""

from __future__ import annotations

import copy
from functools import partial
from types import MethodType
from typing import TypeVar

from torch import nn
from transformers import PreTrainedModel

from layerbridge.errors import BackboneError

Module = TypeVar("Module", bound=nn.Module)


def layer_list(model: PreTrainedModel) -> tuple[str, nn.ModuleList] | None:
    """Returns the path and the list of the model's layers, or None if it is not found."""
    depth = model.config.get_text_config().num_hidden_layers
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return path, module
    return None


def found_layers(model: PreTrainedModel, *, hint: str, so: str = "") -> nn.ModuleList:
    """Returns the list of the model's layers.

    Raises:
        BackboneError: it is not found; ``so`` is what follows from that, ``hint`` what to do.
    """
    path_and_list = layer_list(model)
    if path_and_list is None:
        kind = model.config.model_type
        raise BackboneError(f"cannot find the layers of a {kind!r} model{so}", hint=hint)
    return path_and_list[1]


def truncated(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """Returns a model of the lowest ``layers`` layers, which shares all modules with ``model``.

    ``model`` is not modified, since another thread may be running it. If its list of layers is
    not found, returns ``model``.
    """
    path_and_list = layer_list(model)
    if path_and_list is None:
        return model
    path, all_layers = path_and_list
    shortened = _shallow_copy(model)
    owner: nn.Module = shortened
    *parents, name = path.split(".")
    for parent in parents:
        child = _shallow_copy(getattr(owner, parent))
        setattr(owner, parent, child)
        owner = child
    setattr(owner, name, all_layers[:layers])
    return shortened


def _shallow_copy(module: Module) -> Module:
    copied = copy.copy(module)
    # copy.copy shares the table of submodules.
    copied._modules = dict(module._modules)
    # accelerate's hook on a spread model would run the original.
    forward, hooked = module.__dict__.get("forward"), module.__dict__.get("_old_forward")
    if isinstance(forward, partial) and isinstance(hooked, MethodType):
        own = MethodType(hooked.__func__, copied)
        vars(copied).update(_old_forward=own, forward=partial(forward.func, copied))
    return copied
