"""Resolves a model id: a local folder, a model of the zoo, or a repository on the Hugging Face Hub.

An existing folder takes precedence, then ``zoo:NAME`` and the bare names of the zoo; anything else
is a hub id, pinned to the commit that its revision currently points to. Of a hub model only
config.json is downloaded here: transformers downloads the rest when it loads the model.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from layerbridge.errors import BackboneError
from layerbridge.hub import zoo
from layerbridge.hub.access import HubAccess
from layerbridge.hub.checksum import sha256

_ACCEPTED = {
    "model": "a model folder, zoo:NAME, or a hub id such as google/mt5-small",
    "bridge": "a folder that `layerbridge train` wrote, or a hub id",
}
_READERS = {"model": "transformers", "bridge": "layerbridge"}
# The hub client's own retries take 23 s to report that there is no network.
_TIMEOUT_S = 5.0
# A file that changed within this time may change again without a new time of change.
_SETTLED_S = 2.0


@dataclass(frozen=True)
class Source:
    """A resolved model.

    Args:
        given: the model id as the user wrote it.
        kind: where the model is.
        path: the argument of ``from_pretrained``: a folder or a hub id.
        revision: commit hash of a hub model, to be passed along with ``path``; else None.
        cache_dir: where a hub model is kept; None for the hub client's own place.
    """

    given: str
    kind: Literal["folder", "zoo", "hub"]
    path: str
    revision: str | None = None
    cache_dir: str | Path | None = None

    def fingerprint(self) -> str:
        """Identifies the model by its content, wherever it is stored.

        Returns:
            The SHA-256 over the names and contents of config.json and the weight files; of a hub
            model that is not downloaded, the commit hash. Each file is read once per process.
        """
        if self.kind == "zoo":  # recorded at conversion: no need to read the files again
            recorded = zoo.checksums(Path(self.path).name)
            return _digest(Path(self.path), lambda file: recorded[file.name])
        if self.revision is None:
            return _digest(Path(self.path), _checksum)
        folder = self._snapshot()
        return self.revision if folder is None else _digest(folder, _checksum)

    def identities(self) -> frozenset[str]:
        """Returns the fingerprint, and the commit of a hub model: a folder may have either."""
        return frozenset({self.fingerprint(), self.revision or self.fingerprint()})

    def _snapshot(self) -> Path | None:
        """Returns the folder of a hub model with all its weights, or None."""
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            config = try_to_load_from_cache(
                self.path, "config.json", cache_dir=self.cache_dir, revision=self.revision
            )
        except HFValidationError:
            return None
        if not isinstance(config, str):
            return None
        folder = Path(config).parent
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            complete = all((folder / shard).is_file() for shard in shards)
        else:
            complete = bool(_weights(folder))
        return folder if complete else None


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))


def _digest(folder: Path, checksum: Callable[[Path], str]) -> str:
    digest = hashlib.sha256()
    for file in (folder / "config.json", *_weights(folder)):
        digest.update(f"{file.name} {checksum(file)}\n".encode())
    return digest.hexdigest()


def _checksum(file: Path) -> str:
    """Returns the SHA-256 of a file, and reads it only if that is not known."""
    stored = file.resolve()
    # The hub's cache names large files by their SHA-256.
    if stored.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", stored.name):
        return stored.name
    facts = stored.stat()
    if time.time() - facts.st_mtime < _SETTLED_S:
        return sha256(stored)
    return _read_once(stored, facts.st_size, facts.st_mtime_ns, facts.st_ino)


@cache
def _read_once(file: Path, *_version: int) -> str:
    return sha256(file)


def resolve(
    model_id: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    access: HubAccess | None = None,
) -> Source:
    """Finds the model that ``model_id`` refers to.

    Args:
        model_id: an existing folder, ``zoo:NAME``, a bare name of the zoo, or a hub id. A zoo model
            that is not on this machine is downloaded.
        revision: branch, tag or commit; only for hub ids.
        offline: use only what is on this machine (like ``HF_HUB_OFFLINE=1`` for the hub).
        access: token and cache of the hub; it may ask for ``offline``, too.

    Raises:
        BackboneError: the model does not exist or cannot be reached.
        ZooError: the zoo does not have the model, or it cannot be downloaded.
    """
    if not model_id.strip():
        raise BackboneError("the model id is empty", allowed=_ACCEPTED["model"])
    access = access or HubAccess()
    offline = offline or access.local_files_only
    source = _folder(model_id) or _zoo(model_id, offline=offline)
    if source is None:
        return on_hub(model_id, revision=revision, offline=offline, access=access)
    if revision is not None:
        raise BackboneError(
            f"revision {revision!r} was given for the local model {model_id!r}",
            allowed="revisions of hub ids only",
            hint="omit the revision",
        )
    return source


def is_local(model_id: str) -> bool:
    """Returns whether a model id is a path of this machine, which means nothing on another."""
    return _is_path(model_id) or Path(model_id).is_dir()


def _is_path(model_id: str) -> bool:
    return model_id.startswith(("/", ".", "~")) or "\\" in model_id or model_id.count("/") > 1


def _folder(model_id: str) -> Source | None:
    folder = Path(model_id).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            in_zoo = folder.name in _zoo_names()
            raise BackboneError(
                f"the folder {model_id!r} has no config.json",
                allowed="a folder written by save_pretrained",
                hint=f"zoo:{folder.name} for the model of the zoo" if in_zoo else None,
            )
        return Source(given=model_id, kind="folder", path=str(folder))
    if folder.exists():
        raise BackboneError(f"{model_id!r} is a file", allowed=_ACCEPTED["model"])
    if _is_path(model_id):
        raise BackboneError(f"the folder {model_id!r} does not exist", allowed=_ACCEPTED["model"])
    return None


def _zoo(model_id: str, *, offline: bool) -> Source | None:
    name = model_id.removeprefix("zoo:")
    if name == model_id and name not in _zoo_names():
        return None
    folder = zoo.path(name) if offline else zoo.pull(name)
    return Source(given=model_id, kind="zoo", path=str(folder))


def _zoo_names() -> list[str]:
    return [entry.name for entry in zoo.entries()]


def on_hub(
    repo_id: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    access: HubAccess | None = None,
    kind: str = "model",
) -> Source:
    """Finds a repository on the hub; as ``resolve``, for a repository of that kind.

    Args:
        repo_id: of the repository.
        revision: branch, tag or commit.
        offline: use only what is on this machine.
        access: token and cache.
        kind: ``"model"`` or ``"bridge"``, for messages.

    Raises:
        BackboneError: the repository or revision does not exist or cannot be read.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    access = access or HubAccess()
    name = f"{kind} {repo_id!r}" + (f" at revision {revision!r}" if revision else "")
    try:
        config = try_to_load_from_cache(
            repo_id, "config.json", cache_dir=access.cache_dir, revision=revision
        )
        commit = Path(config).parent.name if isinstance(config, str) else None
        if offline or access.local_files_only or constants.HF_HUB_OFFLINE:
            if commit is None:
                option = f" --revision {revision}" if revision else ""
                raise BackboneError(
                    f"{name} is not on this machine, and offline mode is on",
                    allowed=_ACCEPTED[kind],
                    hint=f"hf download {repo_id}{option} while online",
                )
        elif commit is None or commit != revision:  # a branch may have moved on
            commit = _current_commit(name, kind, repo_id, revision, access, fallback=commit)
    except HFValidationError:
        raise BackboneError(
            f"{repo_id!r} is not a valid {kind} id", allowed=_ACCEPTED[kind]
        ) from None
    return Source(repo_id, "hub", repo_id, commit, access.cache_dir)


def _current_commit(
    name: str,
    kind: str,
    repo_id: str,
    revision: str | None,
    access: HubAccess,
    *,
    fallback: str | None,
) -> str:
    """Asks the hub for the commit of a revision; ``fallback`` serves if it cannot be reached."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The hub client moved from httpx to httpx2; the base of its own error is the one in use.
    unreachable: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        # First without a download, which would retry for long if there is no network.
        HfApi(token=access.token).model_info(repo_id, revision=revision, timeout=_TIMEOUT_S)
        # Needed by a later offline run to find the commit in the cache.
        config = hf_hub_download(repo_id, "config.json", revision=revision, **access.arguments())
        return Path(config).parent.name
    except GatedRepoError:
        raise BackboneError(
            f"{name} is gated: its terms must be accepted first",
            hint=f"accept them on the page of {repo_id}, then run: hf auth login",
        ) from None
    except RepositoryNotFoundError:
        raise BackboneError(
            f"the hub has no {kind} {repo_id!r}, or it is private",
            allowed=_ACCEPTED[kind],
            hint=f"check the spelling; for a private {kind} run: hf auth login",
        ) from None
    except RevisionNotFoundError:
        raise BackboneError(
            f"{kind} {repo_id!r} has no revision {revision!r}",
            allowed="one of its branches, tags or commits",
            hint="omit the revision to get the latest",
        ) from None
    except LocalEntryNotFoundError:
        reason = "it cannot be reached"
    except EntryNotFoundError:
        raise BackboneError(
            f"{name} has no config.json on the hub, so {_READERS[kind]} cannot load it",
            allowed=_ACCEPTED[kind],
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise BackboneError(
                f"the hub denied access to {name} ({status})", hint="hf auth login"
            ) from None
        reason = f"it answered {status}"
    except (unreachable, OSError):
        reason = "it cannot be reached"
    if fallback is None:
        zoo_names = ", or use a model of the zoo: " + ", ".join(_zoo_names())
        raise BackboneError(
            f"{name} is not on this machine and cannot be downloaded from the hub: {reason}",
            allowed=_ACCEPTED[kind],
            hint="check the name and the connection" + (zoo_names if kind == "model" else ""),
        )
    return fallback
