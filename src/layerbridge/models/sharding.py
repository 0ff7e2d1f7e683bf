"""A frozen language model of which each process holds a part of every layer (FSDP2).

A layer is gathered for its own forward pass and again for its backward pass. What lies outside the
layers stays whole in each process: embeddings and head, whose rows are read one by one, and norms.
The bridge is no part of this: it is small, and its gradients are averaged (DDP).

Every process must run the language model equally often.
"""

from __future__ import annotations

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from layerbridge.errors import BackboneError
from layerbridge.models.truncation import found_layers


def shard_layers(model: PreTrainedModel, device: torch.device | str) -> None:
    """Leaves a process its part of each layer, on its device; one layer at a time is moved there.

    Args:
        model: frozen, on the CPU; the same in each process.
        device: of this process.

    Raises:
        BackboneError: the layers are not found, or are quantized.
    """
    layers = found_layers(model, hint="leave --fsdp out", so=", so they cannot be sharded")
    if getattr(model, "hf_quantizer", None) is not None:
        raise BackboneError(
            f"the quantized {model.config.model_type!r} model cannot be sharded",
            hint="leave one of the two out",
        )
    processes = torch.distributed.get_world_size()
    mesh = init_device_mesh(torch.device(device).type, (processes,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    # The body plans which layer is gathered next while one computes.
    body = model.base_model
    outside = {weight for weight in body.parameters() if not isinstance(weight, DTensor)}
    fully_shard(body, mesh=mesh, ignored_params=outside)


def is_sharded(model: PreTrainedModel) -> bool:
    """Whether ``shard_layers`` was called."""
    return any(isinstance(weight, DTensor) for weight in model.parameters())
