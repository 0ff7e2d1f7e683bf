"""``bench fusion``: token-softmax as layerbridge runs it, against the block as the paper writes it.

Same parameters, same random states; no encoder and no language model take part.
Legend: L layers, N tokens, E encoder width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from layerbridge.benchmarking.measure import (
    in_fresh_process,
    interleave,
    peak_bytes,
    ratio,
)
from layerbridge.benchmarking.reference import ReferenceTokenSoftmax
from layerbridge.models import fusion
from layerbridge.models.backbone import resolve_dtype
from layerbridge.models.hidden_states import HiddenStates

REFERENCE, OURS = "reference", "layerbridge"


@dataclass(frozen=True)
class FusionCase:
    """What is fused.

    Args:
        layers: L.
        width: E.
        tokens: N, all in one row.
        dtype: of the states; the bridge's own tensors are float32, the rival's follow the states.
        device: where.
    """

    layers: int = 24
    width: int = 1024
    tokens: int = 2048
    dtype: str = "float32"
    device: str = "cpu"

    def states(self) -> list[Tensor]:
        """L random states [1, N, E]."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, self.tokens, self.width)
        dtype = resolve_dtype(self.dtype)
        return [
            torch.randn(shape, generator=generator).to(self.device, dtype)
            for _ in range(self.layers)
        ]

    def contestants(self) -> dict[str, _Fuse]:
        """Both modules, with the same parameters and without dropout."""
        torch.manual_seed(0)
        ours = fusion.build("token-softmax", num_layers=self.layers, width=self.width)
        # At its start of 0 half of the work would be on zeros.
        nn.init.normal_(ours.get_parameter("query"))
        rival = ReferenceTokenSoftmax(self.layers, self.width)
        rival.load_state_dict(ours.state_dict())
        rival.to(resolve_dtype(self.dtype))
        return {
            REFERENCE: _Fuse(rival.to(self.device).eval(), list),
            OURS: _Fuse(ours.to(self.device).eval(), self._as_states),
        }

    def _as_states(self, layers: list[Tensor]) -> HiddenStates:
        mask = torch.ones(1, self.tokens, dtype=torch.bool, device=self.device)
        return HiddenStates(layers, mask)


class _Fuse(nn.Module):
    """One contestant on the encoder's L states; in training, on through a sum to the gradients."""

    def __init__(self, module: nn.Module, wrap: Callable[[list[Tensor]], Any]) -> None:
        super().__init__()
        self.module = module
        self.wrap = wrap

    def forward(self, layers: list[Tensor]) -> Tensor:
        with torch.no_grad():
            fused: Tensor = self.module(self.wrap(layers))
            return fused

    def train_step(self, layers: list[Tensor]) -> None:
        self.module.zero_grad(set_to_none=True)
        fused = self.module(self.wrap(layers))
        fused.backward(torch.ones_like(fused))


def run(
    case: FusionCase,
    repeat: int = 5,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Times, difference and memory of both.

    Returns:
        ``speedup_forward``, ``speedup_train``, ``max_difference`` (of outputs), ``memory_ratio``
        (ours over the rival's, forward and backward, beyond the states), ``over_floor`` (our
        forward over two reads of the states and one FFN a token), and what they are of.
    """
    layers, contestants = case.states(), case.contestants()
    outputs = {name: call(layers).float() for name, call in contestants.items()}
    forward = interleave(
        {name: partial(call, layers) for name, call in contestants.items()},
        repeat,
        device=case.device,
        progress=progress,
    )
    training = interleave(
        {name: partial(call.train_step, layers) for name, call in contestants.items()},
        repeat,
        device=case.device,
        progress=progress,
    )
    floor = interleave({"floor": partial(_floor(case), layers)}, repeat, device=case.device)
    del contestants, layers
    memory = {name: in_fresh_process(extra_bytes, case, name) for name in outputs}
    return {
        "speedup_forward": ratio(forward[REFERENCE], forward[OURS]),
        "speedup_train": ratio(training[REFERENCE], training[OURS]),
        "max_difference": (outputs[REFERENCE] - outputs[OURS]).abs().max().item(),
        # None where even the rival needs no page more than it had.
        "memory_ratio": memory[OURS] / memory[REFERENCE] if memory[REFERENCE] else None,
        "over_floor": forward[OURS].median / floor["floor"].median,
        "floor_s": floor["floor"].to_dict(),
        "case": vars(case),
        "forward_s": {name: timing.to_dict() for name, timing in forward.items()},
        "train_s": {name: timing.to_dict() for name, timing in training.items()},
        "extra_bytes": memory,
    }


def _floor(case: FusionCase) -> Callable[[list[Tensor]], None]:
    """Two reads of all states, which nothing can do without, and one FFN a token."""
    dtype = resolve_dtype(case.dtype)
    wide = torch.randn(case.width, 2048, device=case.device).to(dtype)
    narrow = torch.randn(2048, case.width, device=case.device).to(dtype)

    def floor(layers: list[Tensor]) -> None:
        for _ in range(2):
            for layer in layers:
                layer.sum(dtype=torch.float32)
        (layers[0] @ wide).relu_() @ narrow

    return floor


def extra_bytes(case: FusionCase, name: str) -> int:
    """Peak memory of one training step beyond the states and the parameters."""
    layers, contestant = case.states(), case.contestants()[name]
    small = FusionCase(case.layers, case.width, 1, case.dtype, case.device)
    for each in small.contestants().values():  # what libraries take for themselves
        each.train_step(small.states())
    before, peak = peak_bytes(lambda: contestant.train_step(layers), case.device)
    return peak - before
