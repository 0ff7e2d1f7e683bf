"""What is left of a run in several processes when one of them ends: an error in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import PartialState

from layerbridge.errors import TrainingError


@contextmanager
def others_needed(then: str | None = None) -> Iterator[None]:
    """Within the context the other processes of the run are waited for.

    Args:
        then: the next step if one of them has ended.

    Raises:
        TrainingError: one has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if PartialState().num_processes == 1 or not _is_of_a_connection(error):
            raise
        raise TrainingError("another process of the run has ended", hint=then) from error


def _is_of_a_connection(error: RuntimeError) -> bool:
    # Gloo has no error of its own: its messages begin with the place in its source.
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
