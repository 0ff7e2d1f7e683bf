"""Whether gradients get through a quantized language model to the soft prompt.

Quantized layers need a backward pass of their own. Where there is none, some kinds fail, and others
let nothing through but the residual stream, which looks like training and is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from layerbridge.errors import BackboneError
from layerbridge.models.placement import input_device

# Relative; rounded activations are off by about 1 %, a missing backward pass by 100 %.
TOLERANCE = 0.2
ROWS = 8

HINT = "train on it --unquantized, or quantized in another way"


def check_gradients(
    named: str,
    model: PreTrainedModel,
    logits: Callable[[Tensor], Float[Tensor, "1 T V"]],
    embeds: Float[Tensor, "1 T D"],
) -> None:
    """Checks that logits have a gradient, and one layer of each kind the right one.

    Args:
        named: the language model, for messages.
        model: frozen.
        logits: of embeddings.
        embeds: of a few tokens.

    Raises:
        BackboneError: gradients do not get through, or are wrong.
    """
    point = embeds.detach().clone().requires_grad_()
    _gradient(named, lambda: logits(point)[:, -1].float().square().sum(), point)
    seen = set()
    for module in model.modules():
        size = getattr(module, "in_features", None)
        kind = (type(module), type(getattr(getattr(module, "weight", None), "data", None)))
        if not isinstance(size, int) or kind in seen:
            continue
        seen.add(kind)
        _check_layer(named, module, size, embeds.dtype, input_device(model))


def _check_layer(
    named: str, module: nn.Module, size: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Checks ⟨W v, W v⟩ = ⟨Wᵀ W v, v⟩, with W v by two forward passes and Wᵀ by the backward one.

    A layer is linear, so that the step v need not be small.
    """
    generator = torch.Generator().manual_seed(0)
    at, step = torch.randn(2, ROWS, size, generator=generator).to(device, dtype)
    point = at.clone().requires_grad_()
    with torch.no_grad():
        moved = module(at + step).float() - module(at).float()
    gradient = _gradient(named, lambda: (moved * module(point).float()).sum(), point)  # noqa: PLW0108
    expected = moved.square().sum()
    apart = ((gradient.float() * step.float()).sum().to(expected) - expected).abs() / expected
    if not apart <= TOLERANCE:
        raise BackboneError(
            f"a {type(module).__name__} of {named} has a wrong backward pass, {apart.item():.0%} "
            "off, so no bridge can be trained on it",
            hint=HINT,
        )


def _gradient(named: str, value: Callable[[], Tensor], point: Tensor) -> Tensor:
    problem: Any = "they are not finite"
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(value(), point)
        if gradient.isfinite().all():
            return gradient
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError, TypeError) as error:
        problem = str(error).splitlines()[0][:120]
    raise BackboneError(
        f"gradients do not get through {named} ({problem}), so no bridge can be trained on it",
        hint=HINT,
    )
