"""A folder of packages as ``pip install layerbridge`` leaves it: no extra is in it."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement


def link(folder: Path) -> None:
    """Fills a folder with links to the core dependencies, and to what they depend on."""
    pending = [("layerbridge", "")]
    seen = set(pending)
    while pending:
        name, extra = pending.pop()
        package = distribution(name)
        if name != "layerbridge":
            for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
                link = folder / top
                if not link.exists():
                    link.symlink_to(package.locate_file(top))
        for line in package.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                found = {(requirement.name, extra) for extra in ("", *requirement.extras)} - seen
                seen |= found
                pending.extend(found)
