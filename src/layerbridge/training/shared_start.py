"""Where a run started: a hash of the bridge's tensors before the first step.

Only runs that share their start can be averaged (``layerbridge average``).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from transformers.trainer_utils import get_last_checkpoint

from layerbridge.models.bridge import LayerBridge
from layerbridge.models.checkpoint import read_config


def record_start(bridge: LayerBridge, folder: Path, *, resume: bool) -> None:
    """Writes the hash to the bridge's config; a resumed run has that of its checkpoint."""
    if resume:
        last = get_last_checkpoint(str(folder))
        config = None if last is None else read_config(last)[0]
        bridge.config.training_start = None if config is None else config.training_start
    else:
        bridge.config.training_start = start_hash(bridge)


def start_hash(bridge: LayerBridge) -> str:
    """Returns a hash of the trained tensors as they are now."""
    digest = hashlib.sha256()
    for name, tensor in sorted(bridge.trained_state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
