"""Files that are there whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from layerbridge.errors import OutputError


def atomic_write(text: str, path: Path, *, hint: str = "choose another folder") -> Path:
    """Writes a text as UTF-8; a file that is there is replaced in one step.

    Args:
        text: all of it.
        path: its folder is made if it is not there.
        hint: the next step, where it cannot be written.

    Returns:
        The path.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, because a rename is atomic only within one file system.
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)  # mkstemp's files are for their owner only
        Path(temporary).replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error})", hint=hint
        ) from None
    finally:
        # Whatever went wrong, an interruption and a letter that UTF-8 does not have among it.
        if temporary:
            Path(temporary).unlink(missing_ok=True)
    return path
