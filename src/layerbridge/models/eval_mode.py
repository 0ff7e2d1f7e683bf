"""Eval mode for a while: an answer must not depend on a dropout mask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Puts a module into eval mode, and restores its mode at the end."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
