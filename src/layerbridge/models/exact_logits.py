"""Logits of a few tokens in float32, where the head is in bfloat16 or float16.

bfloat16 has 8 bits: a logit of 16 is rounded by up to 0.03, a logit of 32 by twice that, so that
close options change places with the rounding. Legend: D LM width, V vocabulary, U tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


def with_exact(
    logits: Float[Tensor, "... V"],
    hidden: Float[Tensor, "... D"],
    ids: Int[Tensor, " U"],
    head: nn.Module,
    shape: Callable[[Tensor], Tensor],
) -> Float[Tensor, "... V"]:
    """Returns the logits in float32, those of ``ids`` computed in float32.

    They stay as they are if they are in float32 already, or the head is no plain matrix: it is
    quantized, or its weights are elsewhere while it does not run.

    Args:
        logits: of the hidden states.
        hidden: the head's input.
        ids: tokens.
        head: made the logits.
        shape: what the model does to its head's output.
    """
    if logits.dtype == torch.float32 or not _is_matrix(head):
        return logits
    device = head.weight.device
    rows = ids.to(device)
    bias = None if head.bias is None else head.bias[rows].float()
    columns = shape(F.linear(hidden.to(device).float(), head.weight[rows].float(), bias))
    return logits.float().index_copy(-1, ids, columns.to(logits.device))


def _is_matrix(head: nn.Module) -> TypeGuard[nn.Linear]:
    if type(head) is not nn.Linear:  # bitsandbytes', GPTQ's and others are modules of their own
        return False
    weight = head.weight
    # torchao's quantized weights are tensors of their own.
    return type(weight.data) is Tensor and weight.is_floating_point() and not weight.is_meta
