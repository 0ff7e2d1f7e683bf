"""A safetensors file that is written whole or not at all, and read with errors of one line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from layerbridge.errors import CheckpointError

# Only one key beside the format: safetensors writes several in any order, and equal content makes
# equal files.
_KEY = "layerbridge"


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file with the usual permissions.

    safetensors makes its file readable by the owner only.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, metadata=dict(metadata))
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None
) -> None:
    """Writes tensors, and facts about them as JSON in the file's metadata.

    Raises:
        CheckpointError: the file cannot be written.
    """
    metadata = {"format": "pt"} if facts is None else {_KEY: json.dumps(facts, sort_keys=True)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
            partial = Path(folder) / path.name
            save(partial, tensors, metadata)
            partial.replace(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be written ({error})", hint="choose another folder"
        ) from None


def read_tensors(path: Path, *, hint: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the tensors of a file and the facts in its metadata.

    Args:
        path: of the file.
        hint: what to do if it is damaged.

    Raises:
        CheckpointError: the file is missing, cut short, damaged or not of this kind.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file {str(path)!r}", hint=hint)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = json.loads((file.metadata() or {}).get(_KEY, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} is damaged or truncated ({error})", hint=hint
        ) from error
    return tensors, facts if isinstance(facts, dict) else {}
