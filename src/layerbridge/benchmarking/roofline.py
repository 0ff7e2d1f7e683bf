"""The highest rate of a machine, measured, with which a benchmark's figures are compared."""

from __future__ import annotations

import torch
from torch import nn

from layerbridge.benchmarking.measure import interleave

# Large enough to reach the rate, small enough for two cores.
MATRIX = {"cpu": 1024, "cuda": 8192}


def matrix_rate(device: torch.device | str, dtype: torch.dtype) -> float:
    """Returns the FLOP per second of a large square matrix product."""
    size = MATRIX.get(torch.device(device).type, 1024)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    timing = interleave({"product": lambda: a @ b}, 5, device=device)["product"]
    return 2 * size**3 / timing.median


def matrix_parameters(module: nn.Module) -> int:
    """Counts the weights that every token is multiplied with: matrices but embeddings and heads.

    A forward pass costs 2 FLOP per token for each, a backward pass to the inputs as many again.
    """
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    head = getattr(module, "get_output_embeddings", lambda: None)()
    if head is not None:
        tables.add(id(head.weight))
    return sum(p.numel() for p in module.parameters() if p.ndim == 2 and id(p) not in tables)
