"""What runs leave in their folders beside result files: the recipe, and the log of weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from layerbridge.errors import ConfigError
from layerbridge.training import recipe, weight_log
from layerbridge.training.weight_log import WeightLog

# More than this is no recipe.
_LONGEST = 64 * 1024


@dataclass(frozen=True)
class RunFolder:
    """One run's folder.

    Attributes:
        path: of the folder.
        recipe: the text of ``recipe.yaml``, if there is one.
        weights: the log of layer weights, if there is one.
    """

    path: Path
    recipe: str | None
    weights: WeightLog | None

    @property
    def name(self) -> str:
        """What a picture calls it: the last part of its path."""
        return self.path.resolve().name


def run_folders(paths: Iterable[str | Path]) -> list[RunFolder]:
    """The run folders among these paths and in the folders below them; files are passed over.

    Raises:
        ConfigError: a recipe cannot be read.
        ResultError: a log of weights is damaged.
    """
    folders: dict[Path, Path] = {}
    for path in map(Path, paths):
        for name in (recipe.FILE, weight_log.FILE) if path.is_dir() else ():
            for file in sorted(path.rglob(name)):
                folders.setdefault(file.parent.resolve(), file.parent)
    return [_read(folder) for folder in folders.values()]


def _read(folder: Path) -> RunFolder:
    text, log = folder / recipe.FILE, folder / weight_log.FILE
    written = None
    if text.is_file():
        try:
            with text.open(encoding="utf-8", errors="replace") as file:
                written = file.read(_LONGEST)
        except OSError as error:
            raise ConfigError(f"the recipe {str(text)!r} cannot be read ({error})") from None
    return RunFolder(folder, written, weight_log.read(log) if log.is_file() else None)
