"""Gradient checkpointing of a frozen model: its layers run again in the backward pass.

Only the input of each layer is kept, so that memory hardly grows with depth. transformers' own
checkpoints only in training mode, which would wake the dropout of a frozen model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from layerbridge.models.truncation import found_layers, layer_list

# Arguments by which layers take a cache, which a second run would extend once more.
_CACHES = ("past_key_values", "cache_params", "layer_past")


class Checkpointed:
    """A layer's forward pass that keeps only its input for the backward pass.

    Args:
        forward: of the layer.
    """

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Runs the layer; without a gradient or with a cache, as it always does."""
        given = (*arguments, *named.values())
        needed = any(isinstance(each, Tensor) and each.requires_grad for each in given)
        cached = any(named.get(name) is not None for name in _CACHES)
        if not needed or cached or not torch.is_grad_enabled():
            return self.forward(*arguments, **named)
        return checkpoint(
            self.forward, *arguments, use_reentrant=False, preserve_rng_state=False, **named
        )


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Checkpoints each layer in place; gradients stay the same, and a step takes longer.

    Args:
        model: frozen, in eval mode.

    Raises:
        BackboneError: the layers are not found.
    """
    for layer in found_layers(model, hint="turn gradient checkpointing off"):
        if not isinstance(layer.forward, Checkpointed):
            layer.forward = Checkpointed(layer.forward)


def restore_layers(model: PreTrainedModel) -> None:
    """Undoes ``checkpoint_layers``: bridges may share the model, and train otherwise."""
    path_and_list = layer_list(model)
    for layer in () if path_and_list is None else path_and_list[1]:
        if isinstance(layer.forward, Checkpointed):
            own = layer.forward.forward
            if getattr(own, "__func__", None) is type(layer).forward:
                del layer.__dict__["forward"]
            else:  # accelerate's hooks stand there
                layer.forward = own
