"""``bench fusion``: token-softmax as layerbridge runs it, against the block as the paper writes it.

Both have the same parameters and random states; encoder and language model are not involved.
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
    Progress,
    in_fresh_process,
    interleave,
    peak_bytes,
    ratio,
    to_dicts,
)
from layerbridge.benchmarking.reference import ReferenceTokenSoftmax
from layerbridge.models import fusion
from layerbridge.models.backbone import resolve_dtype
from layerbridge.models.hidden_states import HiddenStates

REFERENCE, OURS = "reference", "layerbridge"


class _Reference(ReferenceTokenSoftmax):
    def forward(self, states: HiddenStates) -> Tensor:  # type: ignore[override]
        return super().forward(states.layers)


@dataclass(frozen=True)
class FusionCase:
    """What is fused.

    Args:
        layers: L.
        width: E.
        tokens: N, all in one row.
        dtype: of the states and the reference; layerbridge's parameters are float32.
        device: of all.
    """

    layers: int = 24
    width: int = 1024
    tokens: int = 2048
    dtype: str = "float32"
    device: str = "cpu"

    def states(self) -> HiddenStates:
        """Returns random states, L × [1, N, E]."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, self.tokens, self.width)
        layers = [
            torch.randn(shape, generator=generator).to(
                self.device, resolve_dtype(self.dtype, self.device)
            )
            for _ in range(self.layers)
        ]
        return HiddenStates(layers, torch.ones(shape[:2], dtype=torch.bool, device=self.device))

    def modules(self) -> dict[str, nn.Module]:
        """Returns both modules, with the same parameters and without dropout."""
        torch.manual_seed(0)
        ours = fusion.build("token-softmax", num_layers=self.layers, width=self.width)
        # At its start of 0 half of the work would be on zeros.
        nn.init.normal_(ours.get_parameter("query"))
        reference = _Reference(self.layers, self.width)
        reference.load_state_dict(ours.state_dict())
        reference.to(resolve_dtype(self.dtype, self.device))
        return {
            REFERENCE: reference.to(self.device).eval(),
            OURS: ours.to(self.device).eval(),
        }


@torch.no_grad()
def forward(module: nn.Module, states: HiddenStates) -> Tensor:
    """Returns the fused states without gradients."""
    fused: Tensor = module(states)
    return fused


def train(module: nn.Module, states: HiddenStates) -> None:
    """Computes the gradients of the sum of the fused states."""
    module.zero_grad(set_to_none=True)
    fused = module(states)
    fused.backward(torch.ones_like(fused))


def run(case: FusionCase, repeat: int = 5, progress: Progress | None = None) -> dict[str, Any]:
    """Measures times, difference and memory of both.

    Returns:
        ``speedup_forward``, ``speedup_train``, ``max_difference`` (of outputs), ``memory_ratio``
        (ours over the reference's, forward and backward, beyond the states), ``over_floor`` (our
        forward over two reads of the states and one FFN per token), and what they are computed
        from.
    """
    states, modules = case.states(), case.modules()
    outputs = {name: forward(module, states).float() for name, module in modules.items()}
    timings = {
        call: interleave(
            {name: partial(call, module, states) for name, module in modules.items()},
            repeat,
            device=case.device,
            progress=progress,
        )
        for call in (forward, train)
    }
    floor = interleave({"floor": _floor(case, states)}, repeat, device=case.device)["floor"]
    del modules, states
    memory = {name: in_fresh_process(extra_bytes, case, name) for name in outputs}
    return {
        "speedup_forward": ratio(timings[forward][REFERENCE], timings[forward][OURS]),
        "speedup_train": ratio(timings[train][REFERENCE], timings[train][OURS]),
        "max_difference": (outputs[REFERENCE] - outputs[OURS]).abs().max().item(),
        # None where the reference needs no page beyond what it had.
        "memory_ratio": memory[OURS] / memory[REFERENCE] if memory[REFERENCE] else None,
        "over_floor": timings[forward][OURS].median / floor.median,
        "floor_s": floor.to_dict(),
        "case": vars(case),
        "forward_s": to_dicts(timings[forward]),
        "train_s": to_dicts(timings[train]),
        "extra_bytes": memory,
    }


def _floor(case: FusionCase, states: HiddenStates) -> Callable[[], None]:
    """Returns the least possible work: two reads of all states and one FFN per token."""
    dtype = resolve_dtype(case.dtype, case.device)
    wide = torch.randn(case.width, 2048, device=case.device).to(dtype)
    narrow = torch.randn(2048, case.width, device=case.device).to(dtype)

    def floor() -> None:
        for layer in states.layers * 2:
            layer.sum(dtype=torch.float32)
        (states.layers[0] @ wide).relu_() @ narrow

    return floor


def extra_bytes(case: FusionCase, name: str) -> int:
    """Returns the peak memory of one training step beyond the states and the parameters."""
    states, module = case.states(), case.modules()[name]
    small = FusionCase(case.layers, case.width, 1, case.dtype, case.device)
    for each in small.modules().values():  # what libraries allocate for themselves
        train(each, small.states())
    before, peak = peak_bytes(lambda: train(module, states), case.device)
    return peak - before
