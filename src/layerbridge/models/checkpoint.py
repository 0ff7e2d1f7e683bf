"""A checkpoint on disk: ``config.json``, ``model.safetensors`` (trained tensors), a model card.

It knows names and shapes of tensors, not their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from layerbridge.errors import CheckpointError, LayerBridgeError
from layerbridge.models import tensor_file
from layerbridge.models.config import BridgeConfig
from layerbridge.models.model_card import plain_card

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"
# Not always there; ``layerbridge.models.language_means`` reads it.
LANGUAGE_MEANS = "language-means.safetensors"

# Tensor names before 0.2 → today's.
_FORMER_NAMES = {"projection.deviation": "projection.std"}


def write_checkpoint(
    folder: Path, config: BridgeConfig, tensors: Mapping[str, Tensor], *, card: str | None = None
) -> None:
    """Writes all three files, each whole or not at all.

    Args:
        folder: created if missing.
        config: the bridge's settings.
        tensors: the trained tensors by name.
        card: the model card; None keeps an existing card, or writes a plain one.

    Raises:
        CheckpointError: ``folder`` is a file.
    """
    if folder.is_file():
        raise CheckpointError(
            f"cannot save to {str(folder)!r}, which is a file", allowed="a folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    # Only one key: safetensors writes several in any order, and equal bridges make equal files.
    metadata = {"format": "pt"}
    # A temporary folder first: a disk that fills up halfway leaves the old checkpoint intact.
    with TemporaryDirectory(dir=folder, prefix=".saving-") as name:
        partial = Path(name)
        tensor_file.save(partial / WEIGHTS, tensors, metadata)
        config.save_pretrained(partial)
        if card is not None or not (folder / CARD).exists():
            (partial / CARD).write_text(card or plain_card(config), encoding="utf-8")
        for file in sorted(partial.iterdir()):
            file.replace(folder / file.name)


def read_config(path: str, *, revision: str | None = None) -> tuple[BridgeConfig, Path]:
    """Reads the settings of the bridge at ``path``; also returns the folder it is in.

    Raises:
        CheckpointError: there is no bridge at ``path``.
    """
    folder = Path(path)
    if not folder.is_dir():
        folder = _download(path, revision)
    file = folder / CONFIG
    if not file.is_file():
        raise CheckpointError(
            f"{path!r} has no {CONFIG}, so it is not a bridge",
            allowed="a folder that `layerbridge train` or save_pretrained wrote, or a hub id",
        )
    try:
        settings, _ = BridgeConfig.get_config_dict(folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(file)!r} is not valid JSON") from error
    kind = settings.get("model_type")
    if kind != BridgeConfig.model_type:
        raise CheckpointError(
            f"{path!r} is a {kind!r} model, not a bridge",
            allowed=f"model_type {BridgeConfig.model_type!r}",
        )
    for backbone in ("encoder", "language_model"):
        if not settings.get(backbone):
            raise CheckpointError(f"{str(file)!r} has no {backbone}", allowed="a model id")
    try:
        return BridgeConfig.from_dict(settings), folder
    except LayerBridgeError:
        raise
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{str(file)!r} has an invalid setting: {error}") from error


def read_checkpoint(folder: Path) -> dict[str, Tensor]:
    """Reads the trained tensors.

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
            f"{str(file)!r} is damaged or truncated ({error})", hint="train or copy it again"
        ) from error
    return {_FORMER_NAMES.get(name, name): tensor for name, tensor in tensors.items()}


def check_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, where: str
) -> None:
    """Compares the names and shapes of saved tensors with a bridge's own.

    Raises:
        CheckpointError: a tensor is missing, unexpected, of another shape, or not finite.
    """
    for name in expected.keys() - tensors.keys():
        raise CheckpointError(f"{where} lacks the tensor {name!r}", allowed=sorted(expected))
    for name, tensor in tensors.items():
        if name not in expected:
            raise CheckpointError(
                f"{where} has an unexpected tensor {name!r}", allowed=sorted(expected)
            )
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{where} has {name!r} of shape {list(tensor.shape)}",
                allowed=f"shape {list(expected[name].shape)}, given its backbones",
            )
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{where} has NaN or infinite numbers in {name!r}", hint="train the bridge again"
            )


def _download(path: str, revision: str | None) -> Path:
    files = [WEIGHTS, CONFIG, CARD, LANGUAGE_MEANS]
    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=files))
    except (RepositoryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, ValueError, OSError):
        raise CheckpointError(
            f"no bridge at {path!r}: neither a folder nor a reachable hub id",
            allowed="a folder that `layerbridge train` wrote, or a hub id",
        ) from None
