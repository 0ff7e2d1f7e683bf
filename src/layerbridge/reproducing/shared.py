"""What all jobs share: the two models, each read once and not before it is asked for, and a cache.

The encoder's states of the training texts are kept for all bridges and seeds if they fit: in an
eighth of the memory that is free where the models are, or else, on a CPU, in a file of up to 20 GB;
otherwise nothing is kept and each step reads its texts. Knows models and texts, not methods.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from layerbridge.errors import OutputError
from layerbridge.hub.sources import resolve
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.state_cache import StateCache
from layerbridge.progress import say
from layerbridge.reproducing.request import Request
from layerbridge.training.precompute import StatePrecomputer

# One part in so many of the free memory.
MEMORY_SHARE = 8
# Bytes of a file; and one part in two of the free disk, whichever is less.
MOST_ON_DISK = 20e9


class Shared:
    """The models of a request.

    Args:
        request: which, and where they run.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.device = request.place

    @cached_property
    def encoder(self) -> Encoder:
        """Read when it is first asked for.

        Raises:
            BackboneError: it cannot be found or read.
        """
        source = resolve(self.request.preset.encoder)
        return Encoder.load(source, self.request.load).to(self.device)

    @cached_property
    def language_model(self) -> LanguageModel:
        """Read when it is first asked for.

        Raises:
            BackboneError: it cannot be found or read.
        """
        source = resolve(self.request.preset.language_model)
        return LanguageModel.load(source, self.request.load).to(self.device)

    def check(self) -> None:
        """Finds both models, fetching those of the zoo; so that a wrong id costs no waiting.

        Raises:
            BackboneError: a model cannot be found.
            ZooError: it cannot be fetched.
        """
        for name in (self.request.preset.encoder, self.request.preset.language_model):
            resolve(name)

    @contextmanager
    def states(self, texts: Sequence[str], folder: Path) -> Iterator[None]:
        """Within, the encoder keeps the states of these texts, if they fit.

        Args:
            texts: of the training.
            folder: where a file for them may lie.
        """
        encoder = self.encoder
        try:
            ahead = StatePrecomputer(encoder, texts, folder, layers=range(encoder.num_layers))
        except OutputError:
            ahead = None  # more than the disk holds
        where = None if ahead is None else room(ahead.bytes, self.device, folder)
        if where == "memory":
            encoder.cache = StateCache()
            try:
                yield
            finally:
                encoder.cache = None
        elif where == "disk":
            assert ahead is not None
            with ahead.cached():
                yield
        else:
            say("there is no room for the encoder's states: each step reads its texts")
            yield

    @contextmanager
    def no_cache(self) -> Iterator[None]:
        """Within, the encoder keeps nothing: test texts are many, and each is read by one pass."""
        held, self.encoder.cache = self.encoder.cache, None
        try:
            yield
        finally:
            self.encoder.cache = held


def room(count: float, device: str, folder: Path) -> Literal["memory", "disk"] | None:
    """Where so many bytes of states would be kept; None for nowhere.

    Args:
        count: bytes.
        device: where the models are; states in a file come back on the CPU, and are for it alone.
        folder: where a file may lie.
    """
    if count <= free_memory(device) / MEMORY_SHARE:
        return "memory"
    return "disk" if device == "cpu" and count <= most_on_disk(folder) else None


def free_memory(device: str) -> float:
    """Bytes that could be taken where the encoder's states are."""
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        (kilobytes,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return float(kilobytes) * 1024
    except (OSError, ValueError):
        # No Linux: half of what the machine has.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2


def most_on_disk(folder: Path) -> float:
    """Bytes that a file of states may have in a folder."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return min(MOST_ON_DISK, shutil.disk_usage(there).free / 2)
