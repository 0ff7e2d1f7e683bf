"""The two models that all jobs share, and the hidden states of the training texts.

The states are kept for all bridges and seeds: in memory if they take at most an eighth of what is
free on the models' device, else, on a CPU, in a file of at most 20 GB. Otherwise they are computed
at each step.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Literal

import psutil  # type: ignore[import-untyped]
import torch

from layerbridge.errors import OutputError
from layerbridge.hub.sources import resolve
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.state_cache import StateCache
from layerbridge.progress import say
from layerbridge.reproducing.request import Request
from layerbridge.training.output import nearest_existing
from layerbridge.training.precompute import StatePrecomputer

# Parts of the free memory and the free disk; and bytes of a file.
MEMORY_SHARE = 1 / 8
DISK_SHARE = 1 / 2
MAX_FILE_BYTES = 20e9


class Backbones:
    """The models of a request, loaded when first used; a ``BackboneError`` if they cannot be."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.device = request.device

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder, as the bridges use it: with another end of the template it has no cache."""
        encoder = Encoder.load(resolve(self.request.encoder), self.request.load).to(self.device)
        return encoder.with_settings(template=self.request.task().template)

    @cached_property
    def language_model(self) -> LanguageModel:
        """The language model."""
        source = resolve(self.request.language_model)
        return LanguageModel.load(source, self.request.load).to(self.device)

    @contextmanager
    def states(self, texts: Sequence[str], folder: Path) -> Iterator[None]:
        """Keeps the states of these texts inside the context, in ``folder`` or in memory."""
        encoder, place = self.encoder, None
        with suppress(OutputError):  # larger than the free disk
            precomputer = StatePrecomputer(encoder, texts, folder, layers=range(encoder.num_layers))
            place = place_for(precomputer.bytes, self.device, folder)
        if place == "disk":
            with precomputer.cached():
                yield
            return
        if place is None:
            say("no room for the encoder's states: each step computes its own")
        encoder.cache = StateCache() if place == "memory" else None
        try:
            yield
        finally:
            encoder.cache = None

    @contextmanager
    def no_cache(self) -> Iterator[None]:
        """Disables the cache inside the context: each test text is read only once."""
        cache, self.encoder.cache = self.encoder.cache, None
        try:
            yield
        finally:
            self.encoder.cache = cache


def place_for(size: float, device: str, folder: Path) -> Literal["memory", "disk"] | None:
    """Returns where ``size`` bytes of states are kept; None for nowhere.

    States in a file, in ``folder``, are for the CPU only.
    """
    if size <= free_memory(device) * MEMORY_SHARE:
        return "memory"
    return "disk" if device == "cpu" and size <= max_file_bytes(folder) else None


def free_memory(device: str) -> float:
    """Returns the free bytes of the device's memory."""
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def max_file_bytes(folder: Path) -> float:
    """Returns the largest size of a file of states in a folder."""
    return min(MAX_FILE_BYTES, shutil.disk_usage(nearest_existing(folder)).free * DISK_SHARE)
