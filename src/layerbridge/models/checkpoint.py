"""A checkpoint on disk: ``config.json``, ``model.safetensors`` (trained tensors), a model card.

It knows names and shapes of tensors, not what they mean.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from layerbridge.errors import CheckpointError, LayerBridgeError
from layerbridge.models.config import BridgeConfig

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"

# Tensors by the names they had before 0.2, so that older checkpoints still load.
_FORMER_NAMES = {"projection.deviation": "projection.std"}


def write_checkpoint(
    folder: Path, config: BridgeConfig, tensors: Mapping[str, Tensor], *, card: str | None = None
) -> None:
    """Writes all three files, each whole or not at all.

    Args:
        folder: made if it is not there.
        config: the bridge's settings.
        tensors: the trained tensors by name.
        card: the model card; None writes a plain one, unless one is there already.
    """
    if folder.is_file():
        raise CheckpointError(
            f"cannot save to {str(folder)!r}, which is a file", allowed="a folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One key alone: safetensors writes several in any order, and equal bridges make equal files.
    metadata = {"format": "pt"}
    # All of it is written beside first: a disk that fills up halfway leaves the old checkpoint.
    with TemporaryDirectory(dir=folder, prefix=".saving-") as name:
        partial = Path(name)
        save_file(weights, partial / WEIGHTS, metadata=metadata)
        # safetensors makes its file readable by its owner alone; this is a file like others.
        umask = os.umask(0)
        os.umask(umask)
        (partial / WEIGHTS).chmod(0o666 & ~umask)
        config.save_pretrained(partial)
        if card is not None or not (folder / CARD).exists():
            (partial / CARD).write_text(card or plain_card(config), encoding="utf-8")
        for file in sorted(partial.iterdir()):
            file.replace(folder / file.name)


def read_config(path: str, *, revision: str | None = None) -> tuple[BridgeConfig, Path]:
    """The settings of the bridge at ``path``, and the folder it lies in.

    Raises:
        CheckpointError: there is no bridge there.
    """
    folder = Path(path)
    if not folder.is_dir():
        folder = _download(path, revision)
    file = folder / CONFIG
    if not file.is_file():
        raise CheckpointError(
            f"{path!r} holds no bridge: it has no {CONFIG}",
            allowed="a folder that `layerbridge train` or save_pretrained wrote, or a hub id",
        )
    try:
        settings, _ = BridgeConfig.get_config_dict(folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(file)!r} is not readable JSON") from error
    kind = settings.get("model_type")
    if kind != BridgeConfig.model_type:
        raise CheckpointError(
            f"{path!r} is a {kind!r} model, not a bridge",
            allowed=f"model_type {BridgeConfig.model_type!r}",
        )
    for what in ("encoder", "language_model"):
        if not settings.get(what):
            raise CheckpointError(f"{str(file)!r} names no {what}", allowed="a model id")
    try:
        return BridgeConfig.from_dict(settings), folder
    except LayerBridgeError:
        raise
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{str(file)!r} has a setting that does not fit: {error}") from error


def read_checkpoint(folder: Path) -> dict[str, Tensor]:
    """The trained tensors.

    Raises:
        CheckpointError: the file is missing, cut short or damaged.
    """
    file = folder / WEIGHTS
    if not file.is_file():
        raise CheckpointError(f"{str(folder)!r} has no {WEIGHTS}", hint="train or copy it again")
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{str(file)!r} is damaged or cut short ({error})", hint="train or copy it again"
        ) from error
    return {_FORMER_NAMES.get(name, name): tensor for name, tensor in tensors.items()}


def plain_card(config: BridgeConfig) -> str:
    """What can be said of a bridge of which nothing but its settings is known."""
    return "\n".join(
        [
            "---",
            "library_name: layerbridge",
            "tags: [layerbridge, multilingual, soft-prompt]",
            "---",
            "",
            "# A layerbridge bridge",
            "",
            f"It lets `{config.language_model}` read what `{config.encoder}` understands, through "
            f"`{config.fusion}` fusion of the encoder's layers. Only the bridge is stored here.",
            "",
            "```python",
            "from layerbridge import LayerBridge",
            "",
            'bridge = LayerBridge.from_pretrained("THIS FOLDER OR ID")',
            'bridge.generate_text(["…"])',
            "```",
            "",
        ]
    )


def _download(path: str, revision: str | None) -> Path:
    wanted = [WEIGHTS, CONFIG, CARD]
    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=wanted))
    except (RepositoryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, ValueError, OSError):
        raise CheckpointError(
            f"there is no bridge at {path!r}: it is no folder here, and no hub id that can be "
            "reached",
            allowed="a folder that `layerbridge train` wrote, or a hub id",
        ) from None
