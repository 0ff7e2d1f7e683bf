"""Finds a benchmark's files in a folder: the layout of ``--data-dir``.

``train-en`` or ``train``, ``valid-LANGUAGE``, ``dev-LANGUAGE`` or ``validation-LANGUAGE``, and
``test-LANGUAGE``, each with a supported suffix. ``LANGUAGE/test``, the layout of some data sets on
the hub, works too. Knows nothing about what the files contain.
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
    """Existing folders, searched in order."""

    paths: tuple[Path, ...]

    @classmethod
    def of(cls, data_dir: str | Path | Sequence[str | Path], names: Iterable[str]) -> Folders:
        """Returns the user's folders, each preceded by its subfolders with one of these names.

        Raises:
            DataError: a folder is missing, or none was given.
        """
        folders = [data_dir] if isinstance(data_dir, (str, Path)) else data_dir
        if not folders:
            raise DataError("data_dir is empty", allowed="one or more folders")
        paths: list[Path] = []
        for folder in map(Path, folders):
            if not folder.is_dir():
                raise DataError(f"the folder {folder} does not exist", hint="check data_dir")
            subfolders = (folder / name for name in names)
            paths += [*(path for path in subfolders if path.is_dir()), folder]
        return cls(tuple(paths))

    def find(self, split: str, codes: Sequence[str]) -> str | None:
        """Returns the file of a split in a language; None if there is none.

        Args:
            split: ``train``, ``validation`` or ``test``.
            codes: codes of the language that a file name may have.

        Raises:
            DataError: one folder has two such files.
        """
        stems = _STEMS[split]
        names = [
            name
            for code in codes
            for stem in stems
            for name in (f"{stem}-{code}", f"{code}/{stem}")
        ]
        if split == "train":
            names.append("train")
        for folder in self.paths:
            paths = (folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES)
            files = [path for path in paths if path.is_file()]
            if len(files) > 1:
                raise DataError(f"both {files[0]} and {files[1]} exist", hint="keep one of them")
            if files:
                return str(files[0])
        return None

    def __str__(self) -> str:
        return ", ".join(map(str, self.paths))


def file_names(split: str, language: str) -> str:
    """Lists the accepted file names, for messages."""
    names = [f"{stem}-{language}" for stem in _STEMS[split]]
    if split == "train":
        names.append("train")
    return f"{' or '.join(names)}, ending in {', '.join(SUFFIXES)}"
