"""Data sets of the Hugging Face Hub by a short name.

There are two kinds of names: ``id``, ``id:config`` or ``id:config:split`` for what ``datasets``
loads, and ``hf://datasets/OWNER/NAME[@REVISION]/PATH`` for one file. The second is for data sets
with a loading script, which ``datasets`` 4 and later refuse although their files are ordinary.
Knows nothing about columns and labels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from layerbridge.errors import DataError

FILE_PREFIX = "hf://"

_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]*){0,2}")
_FILE = re.compile(
    r"hf://datasets/(?P<repo_id>[\w.-]+/[\w.-]+)"
    r"(@(?P<revision>refs/(convert|pr)/\w+|[\w.-]+))?/(?P<filename>[^@]+)"
)


def is_id(source: str) -> bool:
    """Returns whether the text has the form of a data set id; it need not exist."""
    return _ID.fullmatch(source) is not None


def dataset_of(source: str | None) -> tuple[str, str | None] | None:
    """Returns the id and the config of the data set on the hub that has the rows; None if none has.

    Args:
        source: a file, or a name of either kind; None for no rows.
    """
    if source is None or Path(source).exists():
        return None
    match = _FILE.fullmatch(source)
    if match is not None:
        return match["repo_id"], None
    name, config, _ = _id_parts(source)
    return (name, config or None) if is_id(source) and "/" in name else None


def fetch(source: str) -> Path:
    """Returns the file that ``hf://…`` names, from the cache or the network.

    Raises:
        DataError: the name is malformed, or the file is not available.
    """
    import huggingface_hub

    file = _file(source)
    try:
        return Path(huggingface_hub.hf_hub_download(**file, repo_type="dataset"))
    except Exception as error:  # anything that the network or the hub raises
        raise _unavailable(source, error) from None


class HubRows:
    """Rows of a loaded data set, which stay on the disk; class numbers become class names.

    Args:
        loaded: a ``datasets.Dataset``.
    """

    def __init__(self, loaded: Any) -> None:
        import datasets

        self.columns = tuple(loaded.column_names)
        self.bytes: int = loaded.data.nbytes
        self._loaded = loaded
        self._classes = {
            column: feature.names
            for column, feature in loaded.features.items()
            if isinstance(feature, datasets.ClassLabel)
        }

    def __len__(self) -> int:
        return len(self._loaded)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for record in self._loaded:
            for column, names in self._classes.items():
                # The hub marks a row without a label with -1.
                value = record[column]
                record[column] = names[value] if value is not None and value >= 0 else None
            yield record


def load(source: str) -> HubRows:
    """Returns the rows of a data set.

    Raises:
        DataError: it cannot be loaded, or it has several splits and none was named.
    """
    import datasets

    name, config, split = _id_parts(source)
    try:
        loaded = datasets.load_dataset(name, config or None, split=split or None)
    except Exception as error:  # anything that the network, the hub or the files raise
        raise _unavailable(source, error) from None
    if isinstance(loaded, dict):
        if len(loaded) > 1:
            raise DataError(
                f"{source} has several splits",
                allowed=[f"{name}:{config}:{known}" for known in loaded],
            )
        loaded = next(iter(loaded.values()))
    return HubRows(loaded)


def datasets_folder() -> Path:
    """Returns the folder of ``datasets``; importing it would take a second."""
    from huggingface_hub import constants

    return Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets")


def is_cached(source: str) -> bool:
    """Returns whether the source is in the local caches, judging by their folders."""
    from huggingface_hub import try_to_load_from_cache

    if source.startswith(FILE_PREFIX):
        return isinstance(try_to_load_from_cache(**_file(source), repo_type="dataset"), str)
    name, config, _ = _id_parts(source)
    prepared = datasets_folder() / name.replace("/", "___") / (config or "default")
    return prepared.is_dir() and any(prepared.iterdir())


def _file(source: str) -> dict[str, Any]:
    match = _FILE.fullmatch(source)
    if match is None:
        raise DataError(
            f"{source} does not name a file on the hub",
            allowed="hf://datasets/OWNER/NAME/PATH, or hf://datasets/OWNER/NAME@REVISION/PATH",
        )
    return match.groupdict()


def _id_parts(source: str) -> tuple[str, str, str]:
    name, config, split = [*source.split(":"), "", ""][:3]
    return name, config, split


def _unavailable(source: str, error: Exception) -> DataError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return DataError(
        f"cannot load the data set {source} from the hub ({reason})",
        hint="check the id and the network, or give a file",
    )
