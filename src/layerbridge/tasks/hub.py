"""Data sets of the Hugging Face hub by a short name, and which of them are on this machine.

Two kinds of names: ``id``, ``id:config`` or ``id:config:split`` for what ``datasets`` loads, and
``hf://datasets/OWNER/NAME[@REVISION]/PATH`` for one file. The second is for data sets that come
with a loading script, which ``datasets`` 4 and later refuse, though their files are plain ones.
Knows nothing of columns and labels.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from layerbridge.errors import DataError

FILE_PREFIX = "hf://"

_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]*){0,2}")
_FILE = re.compile(
    r"hf://datasets/(?P<id>[\w.-]+/[\w.-]+)"
    r"(@(?P<revision>refs/(convert|pr)/\w+|[\w.-]+))?/(?P<path>[^@]+)"
)


def is_id(source: str) -> bool:
    """Whether the text has the form of a data set's id; nobody is asked whether it exists."""
    return _ID.fullmatch(source) is not None


def fetch(source: str) -> Path:
    """The one file that ``hf://…`` names, from the cache or the network.

    Raises:
        DataError: the name is malformed, or the file cannot be had.
    """
    import huggingface_hub

    repository, revision, path = _file_parts(source)
    try:
        return Path(
            huggingface_hub.hf_hub_download(
                repository, path, repo_type="dataset", revision=revision
            )
        )
    except Exception as error:  # whatever the network or the hub raise
        raise _unavailable(source, error) from None


def load(source: str) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """The columns and the records of a data set; class numbers become class names.

    Raises:
        DataError: it cannot be loaded, or it has several splits and none was named.
    """
    import datasets

    name, config, split = _id_parts(source)
    try:
        loaded = datasets.load_dataset(name, config or None, split=split or None)
    except Exception as error:  # whatever the network, the hub or the data set's files raise
        raise _unavailable(source, error) from None
    if isinstance(loaded, dict):
        if len(loaded) > 1:
            raise DataError(
                f"{source} has several splits",
                allowed=[f"{name}:{config}:{known}" for known in loaded],
            )
        loaded = next(iter(loaded.values()))
    classes = {
        column: feature.names
        for column, feature in loaded.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    records = []
    for record in loaded:
        for column, names in classes.items():
            # The hub marks a row without a label with -1.
            value = record[column]
            record[column] = names[value] if value is not None and value >= 0 else None
        records.append(record)
    return tuple(loaded.column_names), records


def is_cached(source: str) -> bool:
    """Whether the source can be read without the network, as far as the caches' folders tell."""
    from huggingface_hub import constants

    if source.startswith(FILE_PREFIX):
        repository, revision, path = _file_parts(source)
        folder = Path(constants.HF_HUB_CACHE) / f"datasets--{repository.replace('/', '--')}"
        reference = folder / "refs" / (revision or "main")
        commit = reference.read_text().strip() if reference.is_file() else revision or ""
        return bool(commit) and (folder / "snapshots" / commit / path).exists()
    name, config, _ = _id_parts(source)
    # As the package datasets does, which takes a second to import.
    cache = os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets"
    prepared = Path(cache) / name.replace("/", "___") / (config or "default")
    return prepared.is_dir() and any(prepared.iterdir())


def _file_parts(source: str) -> tuple[str, str | None, str]:
    match = _FILE.fullmatch(source)
    if match is None:
        raise DataError(
            f"{source} names no file of the hub",
            allowed="hf://datasets/OWNER/NAME/PATH, or hf://datasets/OWNER/NAME@REVISION/PATH",
        )
    return match["id"], match["revision"], match["path"]


def _id_parts(source: str) -> tuple[str, str, str]:
    name, config, split = [*source.split(":"), "", ""][:3]
    return name, config, split


def _unavailable(source: str, error: Exception) -> DataError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return DataError(
        f"the data set {source} cannot be loaded from the hub ({reason})",
        hint="check the id and the network, or give a file",
    )
