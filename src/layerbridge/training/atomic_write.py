"""Files that are written completely or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from layerbridge.errors import OutputError


def atomic_write(text: str, path: Path, *, hint: str = "choose another folder") -> Path:
    """Writes a text as UTF-8, replacing an existing file in one step.

    Args:
        text: the whole content.
        path: of the file; missing folders are created.
        hint: the next step, for the error.

    Returns:
        The path.

    Raises:
        OutputError: the folder cannot be created or written to.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, because a rename is atomic only within one file system.
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)  # mkstemp's files are readable by their owner only
        Path(temporary).replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error})", hint=hint
        ) from None
    finally:
        # Also after an interruption, or text that UTF-8 cannot encode.
        if temporary:
            Path(temporary).unlink(missing_ok=True)
    return path
