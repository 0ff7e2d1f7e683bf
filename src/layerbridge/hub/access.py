"""How the hub is asked: with which token, into which cache, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class HubAccess:
    """What transformers' ``from_pretrained`` calls ``token``, ``cache_dir``, ``local_files_only``.

    Args:
        token: of a user who may read the repository; None takes the one of ``hf auth login`` or
            ``HF_TOKEN``, and False sends none.
        cache_dir: where downloads are kept; None takes the hub client's own.
        local_files_only: use what is on this machine, and ask no network.
    """

    token: str | bool | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False

    def arguments(self) -> dict[str, Any]:
        """Returns the keyword arguments of a ``from_pretrained`` or a download."""
        return vars(self)
