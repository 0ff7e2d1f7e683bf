"""What is left of a run in several processes when one of them ends: an error in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from layerbridge.errors import TrainingError
from layerbridge.progress import is_one_of_several


@contextmanager
def others_needed(then: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Within the context the other processes of the run are waited for.

    Args:
        then: returns the next step if one of them has ended.

    Raises:
        TrainingError: one has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_one_of_several() or not _is_of_a_connection(error):
            raise
        raise TrainingError("another process of the run has ended", hint=then()) from error


def _is_of_a_connection(error: RuntimeError) -> bool:
    # Gloo has no error of its own: its messages begin with the place in its source.
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
