"""Where a benchmark's files are in a folder: the layout of ``--data-dir``.

``train-en`` or ``train``, ``valid-LANGUAGE`` or ``dev-LANGUAGE`` or ``validation-LANGUAGE``, and
``test-LANGUAGE``, each with one of the endings that can be read. ``LANGUAGE/test`` will do too: so
are some data sets laid out on the hub. Knows nothing of what is in the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from layerbridge.errors import DataError
from layerbridge.tasks.records import SUFFIXES

_STEMS = {"train": ("train",), "validation": ("valid", "dev", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class Folders:
    """The folders to look in, the first that has a file wins.

    Attributes:
        paths: all of them are there.
    """

    paths: tuple[Path, ...]

    @classmethod
    def of(cls, data_dir: str | Path | Sequence[str | Path], names: Iterable[str]) -> Folders:
        """The folders that a user gave, and before each of them its subfolders of these names.

        Raises:
            DataError: one is missing, or none was given.
        """
        given = [data_dir] if isinstance(data_dir, (str, Path)) else list(data_dir)
        if not given:
            raise DataError("data_dir names no folder", allowed="a folder, or several")
        paths = []
        for folder in map(Path, given):
            if not folder.is_dir():
                raise DataError(f"there is no folder {folder}", hint="check data_dir")
            inside = [folder / name for name in names]
            paths += [*(path for path in inside if path.is_dir()), folder]
        return cls(tuple(paths))

    def find(self, split: str, codes: Sequence[str]) -> str | None:
        """The file of a split in a language; None if there is none.

        Args:
            split: ``train``, ``validation`` or ``test``.
            codes: what the language may be called.

        Raises:
            DataError: one folder has two such files.
        """
        stems = _STEMS[split]
        names = [name for code in codes for stem in stems for name in _names(stem, code)]
        if split == "train":
            names.append("train")
        for folder in self.paths:
            paths = (folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES)
            found = [path for path in paths if path.is_file()]
            if len(found) > 1:
                raise DataError(f"{found[0]} and {found[1]} are both there", allowed="one of them")
            if found:
                return str(found[0])
        return None

    def __str__(self) -> str:
        return ", ".join(map(str, self.paths))


def _names(stem: str, code: str) -> tuple[str, str]:
    return f"{stem}-{code}", f"{code}/{stem}"


def wanted(split: str, language: str) -> str:
    """What a file may be called, for messages."""
    names = [f"{stem}-{language}" for stem in _STEMS[split]]
    if split == "train":
        names.append("train")
    return f"{' or '.join(names)}, ending in {', '.join(SUFFIXES)}"
