"""Files that are there whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from layerbridge.errors import OutputError


def write(text: str, path: Path) -> Path:
    """Writes a text; a file that is there is replaced in one step.

    Raises:
        OutputError: it cannot be written.
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
            f"{path} cannot be written ({error.strerror or error})",
            hint="another --output-dir, or free some disk",
        ) from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
    return path
