"""A checkpoint on disk: ``config.json``, ``model.safetensors`` (trained tensors), a model card.

It knows names and shapes of tensors, not their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from layerbridge.errors import BackboneError, CheckpointError, LayerBridgeError
from layerbridge.hub.access import HubAccess
from layerbridge.hub.sources import is_local, on_hub
from layerbridge.models import tensor_file
from layerbridge.models.config import BridgeConfig
from layerbridge.models.model_card import plain_card

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"
# Not always there; ``layerbridge.models.language_means`` reads it.
LANGUAGE_MEANS = "language-means.safetensors"
# Not always there: results as the hub reads them, one file for each task.
EVAL_RESULTS = ".eval_results"

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


def read_config(
    path: str,
    *,
    revision: str | None = None,
    access: HubAccess | None = None,
) -> tuple[BridgeConfig, Path]:
    """Reads the settings of the bridge at ``path``; also returns the folder it is in.

    Args:
        path: a folder, or a hub id.
        revision: branch, tag or commit on the hub.
        access: token and cache of the hub.

    Raises:
        CheckpointError: there is no bridge at ``path``.
    """
    folder = Path(path)
    if not folder.is_dir():
        folder = _download(path, revision, access)
    elif revision is not None:
        raise CheckpointError(
            f"revision {revision!r} was given for the local bridge {path!r}",
            allowed="revisions of hub ids only",
            hint="omit the revision",
        )
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
        # A backbone that a run brings along, as an imported one may.
        if str(settings[backbone]).startswith("./") and (folder / settings[backbone]).is_dir():
            settings[backbone] = str(folder / settings[backbone])
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


def _download(path: str, revision: str | None, access: HubAccess | None) -> Path:
    if is_local(path):
        raise CheckpointError(
            f"there is no folder {path!r}",
            allowed="a folder that `layerbridge train` wrote, or a hub id",
        )
    try:
        source = on_hub(path, revision=revision, access=access, kind="bridge")
    except BackboneError as error:
        problem = f"there is no folder {path!r}, and {error.problem}"
        raise CheckpointError(problem, allowed=error.allowed, hint=error.hint) from None
    files = [WEIGHTS, CONFIG, CARD, LANGUAGE_MEANS]
    try:
        folder = snapshot_download(
            path,
            revision=source.revision,
            allow_patterns=files,
            **(access or HubAccess()).arguments(),
        )
    except (HfHubHTTPError, ValueError, OSError) as error:
        raise CheckpointError(
            f"bridge {path!r} cannot be downloaded: {' '.join(str(error).split())[:200]}",
            hint="check the connection and the space on the disk",
        ) from None
    return Path(folder)
