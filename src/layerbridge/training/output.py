"""A run's output folder: checks, preparation, and the log."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint

from layerbridge.errors import OutputError
from layerbridge.models.checkpoint import EVAL_RESULTS, LANGUAGE_MEANS, WEIGHTS
from layerbridge.training.atomic_write import atomic_write
from layerbridge.training.examples import FILE as EXAMPLES
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
                f"{str(folder)!r} has no checkpoint to resume from",
                hint="--overwrite instead of --resume" if filled else "leave --resume out",
            )
    elif filled and not overwrite:
        raise OutputError(
            f"{str(folder)!r} is not empty",
            hint="--overwrite to replace what is in it, --resume to continue, or another folder",
        )
    return folder


def prepare_output(folder: str | Path, *, overwrite: bool = False, resume: bool = False) -> Path:
    """Creates the run's folder and returns it.

    Removes what an earlier run has left, so that it cannot be taken for this one's: the trained
    bridge, its language means, log, examples and result files; with ``overwrite`` also the
    checkpoints and the weight log, which ``resume`` continues. Other files stay.

    Raises:
        OutputError: as ``check_output``.
    """
    folder = check_output(folder, overwrite=overwrite, resume=resume)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite and not resume:
            for stale in folder.glob("checkpoint-[0-9]*"):
                shutil.rmtree(stale)
            (folder / WEIGHT_LOG).unlink(missing_ok=True)
        left = (folder / name for name in (WEIGHTS, LANGUAGE_MEANS, LOG, EXAMPLES))
        shown = folder.glob(f"{EVAL_RESULTS}/*.yaml")
        for stale in (*left, *folder.glob("results/*.json"), *shown):
            stale.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{str(folder)!r} cannot be written ({error.strerror or error})",
            hint="choose another folder",
        ) from None
    return folder


def write_log(history: list[dict[str, float]], folder: Path) -> None:
    """Writes the run's log (loss and learning rate by step) as JSON."""
    atomic_write(json.dumps(history, indent=1) + "\n", folder / LOG)
