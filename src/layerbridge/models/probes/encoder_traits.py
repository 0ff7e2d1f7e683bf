"""What an encoder does with two short texts: its layers, their width, and what it gets wrong.

Legend: L layers, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from layerbridge.errors import BackboneError
from layerbridge.models.placement import input_device
from layerbridge.models.probes.closeness import distance, limit
from layerbridge.models.probes.failure import run
from layerbridge.models.truncation import layer_list, truncated

# Two texts of different lengths, in words that every tokenizer knows.
TEXTS = (
    "The market rose.",
    "The market rose while the players of both teams entertained the crowd.",
)
# A changed token reaches no further in embeddings (MobileBERT's read their neighbors).
NEIGHBORS = 2

HINT = "choose another encoder"


@dataclass(frozen=True)
class EncoderTraits:
    """What the probes found.

    Attributes:
        num_layers: L, without the embeddings' output.
        width: E, of the layers.
        embedding_width: of the embeddings' output, which a few families make narrower.
        can_be_shallow: whether the lowest layers alone give the same states.
    """

    num_layers: int
    width: int
    embedding_width: int
    can_be_shallow: bool


@torch.no_grad()
def encoder_traits(named: str, model: PreTrainedModel, rows: Sequence[list[int]]) -> EncoderTraits:
    """Runs an encoder four times on a few tokens, and checks what the method relies on.

    The states are those of the embeddings and of each layer; a text has the same states alone, in
    a batch, and again; and what is in the place of padding does not matter.

    Args:
        named: the encoder, for messages: ``the encoder 'x'``.
        model: in eval mode, on its device.
        rows: token ids of a short and of a longer text, without padding.

    Raises:
        BackboneError: it fails on a text, or breaks one of these rules.
    """
    short, long = rows
    pads = len(long) - len(short)
    assert pads > 0
    ids = torch.tensor([short + long[len(short) :], long], device=input_device(model))
    mask = torch.ones_like(ids)
    mask[0, len(short) :] = 0
    # Other pads in the first row, another token near the start of the second.
    changed = ids.clone()
    changed[0, len(short) :] = short[-1]
    changed[1, 1] = next(id for id in reversed(long[:-1]) if id != long[1])
    devices = [ids.device] if ids.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.autocast(ids.device.type, enabled=False):
        alone = run(named, lambda: _states(named, model, ids[:1, : len(short)]))
        batch = run(named, lambda: _states(named, model, ids, mask))
        other = run(named, lambda: _states(named, model, changed, mask))
        traits = EncoderTraits(
            num_layers=len(alone) - 2,
            width=alone[1].shape[-1],
            embedding_width=alone[0].shape[-1],
            can_be_shallow=_can_be_shallow(model, ids[:1, : len(short)], alone),
        )
    _check_count(named, model, traits.num_layers)
    if not all(state.isfinite().all() for state in alone):
        if model.dtype == torch.float16:  # which is said after loading
            return traits
        raise BackboneError(f"{named} returns NaN or infinities for a short text", hint=HINT)
    within = limit(model, same_shape=True)
    if distance(other[0][1, 2 + NEIGHBORS :], batch[0][1, 2 + NEIGHBORS :]) > within:
        raise BackboneError(
            f"the first hidden state of {named} is not the output of its embeddings, so its layers "
            "cannot be told apart",
            hint=HINT,
        )
    real = slice(0, len(short))
    padded = [state[:1, real] for state in batch]
    if _apart([state[:1, real] for state in other], padded) > within:
        raise BackboneError(
            f"{named} lets padding into the states of a text, or gives others each time", hint=HINT
        )
    if _apart(padded, alone) > limit(model, same_shape=False):
        raise BackboneError(f"{named} gives a text other states in a batch than alone", hint=HINT)
    return traits


def _states(
    named: str,
    model: PreTrainedModel,
    ids: Int[Tensor, "B S"],
    mask: Int[Tensor, "B S"] | None = None,
) -> list[Float[Tensor, "B S _"]]:
    """Returns embeddings' output, h₁ … h_L as reported, and ``last_hidden_state``."""
    mask = torch.ones_like(ids) if mask is None else mask
    output = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, return_dict=True)
    reported = getattr(output, "hidden_states", None)
    if not reported:
        raise BackboneError(f"{named} reports no hidden states", hint=HINT)
    states = [*reported, output.last_hidden_state]
    shapes = {tuple(state.shape) for state in states[1:]}
    if len(shapes) > 1 or states[1].ndim != 3 or states[1].shape[:2] != ids.shape:
        shown = " and ".join(str(list(shape)) for shape in sorted(shapes))
        raise BackboneError(
            f"the hidden states of {named} have the shapes {shown} for {list(ids.shape)} tokens",
            allowed="one width in all layers, and one state for each token",
            hint=HINT,
        )
    return states


def _apart(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    return max(distance(mine, others) for mine, others in zip(found, expected, strict=True))


def _check_count(named: str, model: PreTrainedModel, count: int) -> None:
    """Checks that there are as many states as layers: the config's, or modules of the model."""
    config = model.config.get_text_config()
    depths: set[int | None] = {
        len(module) for module in model.modules() if isinstance(module, nn.ModuleList)
    }
    depths.add(getattr(config, "num_hidden_layers", None))
    if count not in depths:
        raise BackboneError(
            f"{named} reports {count + 1} hidden states, which are not its embeddings' output and "
            "one for each of its layers",
            hint=HINT,
        )


def _can_be_shallow(
    model: PreTrainedModel, ids: Int[Tensor, "1 S"], whole: Sequence[Tensor]
) -> bool:
    """Returns whether the model can be run without its highest layers."""
    if layer_list(model) is None:
        return False
    try:
        lowest = truncated(model, 2)(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            output_hidden_states=True,
            return_dict=True,
        )
    except torch.OutOfMemoryError:
        raise
    except Exception:
        return False
    return _apart(lowest.hidden_states[:2], whole[:2]) <= limit(model, same_shape=True)
