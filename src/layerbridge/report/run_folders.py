"""What runs leave in their folders besides result files: the recipe and the weight log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from layerbridge.errors import ConfigError
from layerbridge.training import recipe, weight_log
from layerbridge.training.weight_log import WeightLog

# Bytes of a recipe that a page shows.
_MAX_RECIPE = 64 * 1024


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        path: of the folder.
        recipe: text of ``recipe.yaml``; None if there is none.
        weights: log of the layer weights; None if there is none.
    """

    path: Path
    recipe: str | None
    weights: WeightLog | None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.resolve().name


def run_folders(paths: Iterable[str | Path]) -> list[RunFolder]:
    """Returns the run folders among and below these paths; files are ignored.

    Raises:
        ConfigError: a recipe cannot be read.
        ResultError: a weight log is damaged.
    """
    folders: dict[Path, Path] = {}
    for path in map(Path, paths):
        for name in (recipe.FILE, weight_log.FILE):
            for file in sorted(path.rglob(name)) if path.is_dir() else ():
                folders.setdefault(file.parent.resolve(), file.parent)
    return [_read(folder) for folder in folders.values()]


def _read(folder: Path) -> RunFolder:
    path, log = folder / recipe.FILE, folder / weight_log.FILE
    text = None
    if path.is_file():
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                text = file.read(_MAX_RECIPE)
        except OSError as error:
            raise ConfigError(f"cannot read the recipe {str(path)!r} ({error})") from None
    return RunFolder(folder, text, weight_log.read(log) if log.is_file() else None)
