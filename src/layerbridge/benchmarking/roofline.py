"""What the machine can do at most, measured: what a benchmark's figures are held against."""

from __future__ import annotations

import torch
from torch import nn

from layerbridge.benchmarking.measure import interleave

# Large enough to be at the rate, small enough for two cores.
MATRIX = {"cpu": 1024, "cuda": 8192}


def matrix_rate(device: torch.device | str, dtype: torch.dtype) -> float:
    """FLOP a second of a large square matrix product."""
    size = MATRIX.get(torch.device(device).type, 1024)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    timing = interleave({"product": lambda: a @ b}, 5, device=device)["product"]
    return 2 * size**3 / timing.median


def matrix_parameters(module: nn.Module) -> int:
    """Weights that every token is multiplied with: matrices, without embeddings and heads.

    A forward pass costs 2 FLOP a token for each, a backward pass to the inputs alone as many again.
    """
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    head = getattr(module, "get_output_embeddings", lambda: None)()
    if head is not None:
        tables.add(id(head.weight))
    return sum(p.numel() for p in module.parameters() if p.ndim == 2 and id(p) not in tables)
