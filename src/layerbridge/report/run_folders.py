"""What runs leave in their folders besides result files: the recipe and the weight log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from layerbridge.errors import ConfigError
from layerbridge.hub.named_run import split_name
from layerbridge.training import recipe, weight_log
from layerbridge.training.weight_log import WeightLog

# Bytes of a recipe that a page shows.
_MAX_RECIPE = 64 * 1024


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        path: of the folder.
        name: as given by NAME=RUN, or else the last part of its path.
        recipe: text of ``recipe.yaml``; None if there is none.
        weights: log of the layer weights; None if there is none.
    """

    path: Path
    name: str
    recipe: str | None
    weights: WeightLog | None


def run_folders(paths: Iterable[str | Path]) -> list[RunFolder]:
    """Returns the run folders among and below these paths or NAME=PATHs; files are ignored.

    Raises:
        ConfigError: a recipe cannot be read.
        ResultError: a weight log is damaged.
    """
    folders: dict[Path, tuple[Path, str]] = {}
    for name, text in map(split_name, paths):
        path = Path(text)
        for kind in (recipe.FILE, weight_log.FILE):
            for file in sorted(path.rglob(kind)) if path.is_dir() else ():
                folder = file.parent.resolve()
                folders.setdefault(folder, (file.parent, name or folder.name))
    return [_read(*folder) for folder in folders.values()]


def _read(folder: Path, name: str) -> RunFolder:
    path, log = folder / recipe.FILE, folder / weight_log.FILE
    text = None
    if path.is_file():
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                text = file.read(_MAX_RECIPE)
        except OSError as error:
            raise ConfigError(f"cannot read the recipe {str(path)!r} ({error})") from None
    return RunFolder(folder, name, text, weight_log.read(log) if log.is_file() else None)
