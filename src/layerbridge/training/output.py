"""A run's output folder: checks, preparation, the checkpoint to resume from, and the log."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint

from layerbridge.errors import CheckpointError, OutputError
from layerbridge.models.backbone_pair import have_same_weights
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.checkpoint import read_checkpoint, read_config
from layerbridge.training.atomic_write import atomic_write
from layerbridge.training.weight_log import FILE as WEIGHT_LOG

LOG = "training.json"


def nearest_existing(folder: Path) -> Path:
    """Returns ``folder``, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def check_output(folder: str | Path, *, overwrite: bool = False, resume: bool = False) -> Path:
    """Checks that a run may write to ``folder``. Writes nothing.

    Raises:
        OutputError: the folder cannot be written, it is not empty and neither ``overwrite`` nor
            ``resume`` was given, or there is no checkpoint to resume from.
    """
    folder = Path(folder)
    existing = nearest_existing(folder)
    if not existing.is_dir():
        raise OutputError(f"{str(existing)!r} is a file", allowed="a folder")
    if not os.access(existing, os.W_OK):
        raise OutputError(f"{str(existing)!r} cannot be written", hint="choose another folder")
    filled = folder.is_dir() and any(folder.iterdir())
    if resume:
        if not filled or get_last_checkpoint(str(folder)) is None:
            raise OutputError(
                f"{str(folder)!r} has no checkpoint to resume from", hint="leave --resume out"
            )
    elif filled and not overwrite:
        raise OutputError(
            f"{str(folder)!r} is not empty",
            hint="--overwrite to replace what is in it, --resume to continue, or another folder",
        )
    return folder


def prepare_output(folder: str | Path, *, overwrite: bool = False, resume: bool = False) -> Path:
    """Creates the run's folder and returns it.

    ``overwrite`` removes an earlier run's checkpoints, result files and weight log; other files
    stay.

    Raises:
        OutputError: as ``check_output``.
    """
    folder = check_output(folder, overwrite=overwrite, resume=resume)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite and not resume:
            # They would be taken for this run's, and resumed from.
            for stale in folder.glob("checkpoint-[0-9]*"):
                shutil.rmtree(stale)
            for stale in (*folder.glob("results/*.json"), *folder.glob(WEIGHT_LOG)):
                stale.unlink()
    except OSError as error:
        raise OutputError(
            f"{str(folder)!r} cannot be written ({error.strerror or error})",
            hint="choose another folder",
        ) from None
    return folder


def check_resumable(bridge: LayerBridge, folder: Path) -> None:
    """Loads the last checkpoint in ``folder`` into ``bridge``, and checks the Trainer's files.

    Raises:
        CheckpointError: the checkpoint is damaged, or of another fusion or other backbones.
    """
    last = Path(get_last_checkpoint(str(folder)) or folder)
    config, _ = read_config(str(last))
    for backbone in ("encoder", "language_model"):
        if not have_same_weights(config, bridge.config, backbone):
            name = f"{backbone}_fingerprint"
            saved, current = getattr(config, name), getattr(bridge.config, name)
            raise CheckpointError(
                f"{str(last)!r} was trained with another {backbone.replace('_', ' ')}: its "
                f"weights are {saved[:12]}",
                allowed=f"weights {current[:12]}",
                hint="resume with the models it was trained with",
            )
    if config.fusion != bridge.config.fusion:
        raise CheckpointError(
            f"{str(last)!r} has the fusion {config.fusion!r}", allowed=bridge.config.fusion
        )
    bridge.load_trained(read_checkpoint(last), where=str(last))
    for name, is_complete in _STATE_FILES.items():
        if not is_complete(last / name):
            raise CheckpointError(
                f"{str(last / name)!r} is missing or truncated",
                hint=f"remove {last} and resume from the one before it, or train again",
            )


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


# What the Trainer reads besides the bridge's tensors. A zip archive has its directory at the end.
_STATE_FILES = {
    "trainer_state.json": _is_json,
    "optimizer.pt": zipfile.is_zipfile,
    "scheduler.pt": zipfile.is_zipfile,
}


def write_log(history: list[dict[str, float]], folder: Path) -> None:
    """Writes the run's log (loss and learning rate by step) as JSON."""
    atomic_write(json.dumps(history, indent=1) + "\n", folder / LOG)
