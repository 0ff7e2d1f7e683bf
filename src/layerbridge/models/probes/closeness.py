"""How far two computations of the same numbers may be apart, in each dtype.

A float32 model differs by 1e-6 to 1e-4 between shapes, a bfloat16 one, which has 8 bits, by up to a
few percent after many layers. What a probe looks for moves numbers by far more.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

# The same kernels on the same shapes: what differs is what was changed.
SAME_SHAPE = {torch.float32: 5e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
# Other kernels, which round differently.
OTHER_SHAPE = {torch.float32: 5e-3, torch.float16: 5e-2, torch.bfloat16: 0.2}


def distance(found: Float[Tensor, "... E"], expected: Float[Tensor, "... E"]) -> float:
    """Returns the largest relative distance of two vectors: |found - expected| / |expected|.

    NaN or an infinity in either is an infinite distance.
    """
    found, expected = found.float(), expected.float()
    scale = expected.square().mean(-1).sqrt().clamp_min(1e-9)
    apart = ((found - expected).square().mean(-1).sqrt() / scale).max().item()
    return apart if apart < float("inf") else float("inf")


def limit(model: PreTrainedModel, *, same_shape: bool) -> float:
    """Returns the distance from which on numbers of a model count as different."""
    limits = SAME_SHAPE if same_shape else OTHER_SHAPE
    if getattr(model, "is_quantized", False):  # some kinds round by what else is in the batch
        return limits[torch.bfloat16]
    return limits.get(model.dtype, limits[torch.float32])
