"""A run's output folder: whether a run may go there, and what it resumes from."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint

from layerbridge.errors import CheckpointError, OutputError
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.checkpoint import read_checkpoint, read_config
from layerbridge.training.weight_log import FILE as WEIGHT_LOG

LOG = "training.json"


def check_output(folder: str | Path, *, overwrite: bool = False, resume: bool = False) -> Path:
    """Whether a run may go into ``folder``. Nothing is written yet.

    Raises:
        OutputError: it cannot be written, it holds something and neither ``overwrite`` nor
            ``resume`` was given, or there is nothing to resume from.
    """
    folder = Path(folder)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise OutputError(f"{str(there)!r} is a file", allowed="a folder")
    if not os.access(there, os.W_OK):
        raise OutputError(f"{str(there)!r} cannot be written", hint="choose another folder")
    filled = folder.is_dir() and any(folder.iterdir())
    if resume:
        if not filled or get_last_checkpoint(str(folder)) is None:
            raise OutputError(
                f"{str(folder)!r} has no checkpoint to resume from", hint="leave --resume out"
            )
    elif filled and not overwrite:
        raise OutputError(
            f"{str(folder)!r} is not empty",
            hint="--overwrite to replace what is in it, --resume to go on, or another folder",
        )
    return folder


def prepare_output(folder: str | Path, *, overwrite: bool = False, resume: bool = False) -> Path:
    """The run's folder, ready to be written: made, and free of an earlier run's numbers.

    With ``overwrite`` its checkpoints, result files and log of weights go; other files stay.

    Raises:
        OutputError: as ``check_output``.
    """
    folder = check_output(folder, overwrite=overwrite, resume=resume)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite and not resume:
            # Resumed from, or told of as the last good one, they would pass for this run's.
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
    """Whether ``bridge`` can go on from the last checkpoint in ``folder``.

    Raises:
        CheckpointError: the checkpoint is damaged, or of another fusion or other backbones.
    """
    last = Path(get_last_checkpoint(str(folder)) or folder)
    config, _ = read_config(str(last))
    for what in ("encoder", "language_model"):
        name = f"{what}_fingerprint"
        known, own = getattr(config, name), getattr(bridge.config, name)
        if None not in (known, own) and known != own:
            raise CheckpointError(
                f"{str(last)!r} was trained with another {what.replace('_', ' ')}: its weights are "
                f"{known[:12]}",
                allowed=f"weights {own[:12]}",
                hint="resume with the models it was trained with",
            )
    if config.fusion != bridge.config.fusion:
        raise CheckpointError(
            f"{str(last)!r} is a bridge of fusion {config.fusion!r}", allowed=bridge.config.fusion
        )
    bridge.load_trained(read_checkpoint(last), where=str(last))
    for name, whole in _STATE_FILES.items():
        if not whole(last / name):
            raise CheckpointError(
                f"{str(last / name)!r} is missing or cut short",
                hint=f"remove {last} and resume from the one before it, or train again",
            )


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


# What the Trainer resumes from beside the bridge's tensors; torch's files are zip archives, whose
# directory is at their end.
_STATE_FILES = {
    "trainer_state.json": _is_json,
    "optimizer.pt": zipfile.is_zipfile,
    "scheduler.pt": zipfile.is_zipfile,
}


def write_log(history: list[dict[str, float]], folder: Path) -> None:
    """Writes the run's log (loss and learning rate by step) as JSON."""
    (folder / LOG).write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
