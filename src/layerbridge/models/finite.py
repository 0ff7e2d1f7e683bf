"""Checks for NaN and infinities, which would otherwise pass as an answer.

Legend: B batch, S encoder tokens, D LM width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from layerbridge.errors import NotFiniteError
from layerbridge.hub.sources import Source
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.progress import say

STATES = "the encoder's hidden states"

# A model that overflows float16 does so on any sentence, since a few dimensions of its states are
# always large.
PROBE = "The market rose while the players of both teams entertained the crowd."


def finite_rows(values: Float[Tensor, "B ..."]) -> Bool[Tensor, " B"]:
    """Returns which rows have neither NaN nor an infinity."""
    return values.isfinite().flatten(1).all(1)


def check_rows(finite: Bool[Tensor, " B"], what: str, dtype: torch.dtype) -> None:
    """Checks that all rows of a batch are finite.

    Args:
        finite: by row.
        what: what was computed.
        dtype: of the model that computed it.

    Raises:
        NotFiniteError: names the rows that are not.
    """
    if finite.all():
        return
    rows = (~finite).nonzero().flatten().tolist()
    raise NotFiniteError(what, rows, hint=advice(dtype))


def check_soft_prompt(
    soft: Float[Tensor, "B n D"],
    mask: Bool[Tensor, "B n"],
    states: HiddenStates,
    dtype: torch.dtype,
    *,
    training: bool,
) -> None:
    """Checks the soft prompt, and with it the states that it is made of.

    Args:
        soft: of the states.
        mask: true for real soft tokens.
        states: are read only if the soft prompt is not finite.
        dtype: of the encoder.
        training: leave a soft prompt of finite states to the check of the loss, which knows the
            step and the last checkpoint.

    Raises:
        NotFiniteError: names the rows that are not finite.
    """
    finite = (soft.isfinite().all(-1) | ~mask).all(1)
    if finite.all():
        return
    check_rows(states.finite_rows(), STATES, dtype)
    if not training:
        check_rows(finite, "the soft prompts", soft.dtype)


def warn_of_overflow(
    kind: str, source: Source, dtype: torch.dtype, is_finite: Callable[[str], bool]
) -> None:
    """Says so if a model that is loaded in float16 overflows it on a short sentence.

    Args:
        kind: ``"encoder"`` or ``"language model"``.
        source: where it is.
        dtype: of the model; only float16 is tried.
        is_finite: whether the model's numbers for a text are finite.
    """
    if dtype == torch.float16 and not is_finite(PROBE):
        say(f"warning: the {kind} {source.given!r} overflows float16: {advice(dtype)}")


def advice(dtype: torch.dtype) -> str:
    """Returns what to do about numbers that a model of this dtype cannot represent."""
    if dtype == torch.float16:
        reason = "float16 cannot hold values above 65504"
        return f"load the models with --dtype bfloat16 or float32: {reason}"
    return "check the weights of the models and of the bridge, or load them again"


@contextmanager
def naming(texts: Sequence[str]) -> Iterator[None]:
    """Names the texts of a batch in a ``NotFiniteError`` that its answers raise."""
    try:
        yield
    except NotFiniteError as error:
        raise error.of(texts) from None
