"""Running a model that may not run at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from layerbridge.errors import BackboneError


def run(named: str, call: Callable[[], Any], what: str = "a short text") -> Any:
    """Runs a model; what it raises becomes one line, but for a lack of memory.

    Args:
        named: the model, for the message: ``the encoder 'x'``.
        call: runs it on a few tokens.
        what: they are, for the message.

    Raises:
        BackboneError: the model cannot read a short text.
    """
    try:
        return call()
    except (torch.OutOfMemoryError, MemoryError, BackboneError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise BackboneError(
            f"{named} cannot read {what}: {type(error).__name__}: {reason}",
            hint="choose another model",
        ) from error
