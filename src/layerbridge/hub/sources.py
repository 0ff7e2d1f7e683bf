"""What a model id points at: a local folder, a model of the zoo, or a repository of the model hub.

An existing folder wins over everything; then come ``zoo:NAME`` and the zoo's bare names; the rest
is a hub id, pinned to the commit its revision means now. Of a hub model only config.json is fetched
here: transformers fetches what it needs when it loads.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from layerbridge.errors import BackboneError
from layerbridge.hub import zoo

_ACCEPTED = "a model folder, zoo:NAME, or a hub id such as google/mt5-small"
# The hub's own client would try for 23 s before it said that there is no network.
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Source:
    """A model that was found.

    Args:
        given: the model id as the user wrote it.
        kind: where it is.
        path: what ``from_pretrained`` takes: a folder, or the hub id.
        revision: of a hub model the commit hash, to be passed along with ``path``; else None.
    """

    given: str
    kind: Literal["folder", "zoo", "hub"]
    path: str
    revision: str | None = None

    def fingerprint(self) -> str:
        """What tells this model from any other, wherever it lies.

        The commit hash of a hub model; of a folder the SHA-256 over the names and contents of its
        config.json and weight files.
        """
        if self.revision is not None:
            return self.revision
        folder = Path(self.path)
        if self.kind == "zoo":  # known since the conversion: no need to read it all again
            recorded = zoo.checksums(folder.name)
        else:
            recorded = {file.name: _sha256(file) for file in _identifying(folder)}
        whole = hashlib.sha256()
        for file in _identifying(folder):
            whole.update(f"{file.name} {recorded[file.name]}\n".encode())
        return whole.hexdigest()


def resolve(model_id: str, *, revision: str | None = None, offline: bool = False) -> Source:
    """Find the model that ``model_id`` means.

    Args:
        model_id: an existing folder, ``zoo:NAME``, a bare name of the zoo, or a hub id. A zoo model
            that is not on this machine is pulled.
        revision: branch, tag or commit; of hub ids only.
        offline: use only what is on this machine (the same as ``HF_HUB_OFFLINE=1`` for the hub).

    Raises:
        BackboneError: there is no such model, or it cannot be reached.
        ZooError: the zoo has no such model, or it cannot be pulled.
    """
    if not model_id.strip():
        raise BackboneError("the model id is empty", allowed=_ACCEPTED)
    source = _folder(model_id) or _zoo(model_id, offline=offline)
    if source is None:
        return _hub(model_id, revision=revision, offline=offline)
    if revision is not None:
        raise BackboneError(
            f"revision {revision!r} was given with {model_id!r}, which is on this machine",
            allowed="a revision with hub ids only",
            hint="leave the revision out",
        )
    return source


def _folder(model_id: str) -> Source | None:
    folder = Path(model_id).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BackboneError(
                f"the folder {model_id!r} has no config.json",
                allowed="a folder that save_pretrained wrote",
                hint=f"zoo:{folder.name} for the model of the zoo"
                if folder.name in _zoo_names()
                else None,
            )
        return Source(given=model_id, kind="folder", path=str(folder))
    if folder.exists():
        raise BackboneError(f"{model_id!r} is a file", allowed=_ACCEPTED)
    if model_id.startswith(("/", ".", "~")) or "\\" in model_id or model_id.count("/") > 1:
        raise BackboneError(f"there is no folder {model_id!r}", allowed=_ACCEPTED)
    return None


def _zoo(model_id: str, *, offline: bool) -> Source | None:
    name = model_id.removeprefix("zoo:")
    if name == model_id and name not in _zoo_names():
        return None
    folder = zoo.path(name) if offline else zoo.pull(name)
    return Source(given=model_id, kind="zoo", path=str(folder))


def _hub(model_id: str, *, revision: str | None, offline: bool) -> Source:
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError

    try:
        commit = _cached_commit(model_id, revision)
        if offline or constants.HF_HUB_OFFLINE:
            if commit is None:
                raise BackboneError(
                    f"{_told(model_id, revision)} is not on this machine and the hub may not be "
                    "asked (offline)",
                    allowed=_ACCEPTED,
                    hint=f"hf download {_command(model_id, revision)} while online",
                )
        elif commit is None or commit != revision:  # what is asked for may have moved on
            commit = _current_commit(model_id, revision, fallback=commit)
    except HFValidationError:
        raise BackboneError(f"{model_id!r} is no model id", allowed=_ACCEPTED) from None
    return Source(given=model_id, kind="hub", path=model_id, revision=commit)


def _current_commit(model_id: str, revision: str | None, *, fallback: str | None) -> str:
    """Ask the hub which commit is meant; where it cannot be reached, ``fallback`` will do."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The hub's client moved from httpx to httpx2; its own error tells which one this is.
    unreachable: type[Exception] = HfHubHTTPError.__bases__[0]
    told = _told(model_id, revision)
    try:
        # The question alone first: it is not repeated when it fails, as a download would be.
        url = hf_hub_url(model_id, "config.json", revision=revision)
        get_hf_file_metadata(url, timeout=_PATIENCE_S)
        # The download leaves in the cache what a later offline run needs to find the commit.
        config = hf_hub_download(model_id, "config.json", revision=revision)
        return Path(config).parent.name
    except GatedRepoError:
        raise BackboneError(
            f"{told} is gated: the hub lets in only those who accepted its terms",
            hint=f"accept them on the page of {model_id}, then run: hf auth login",
        ) from None
    except RepositoryNotFoundError:
        raise BackboneError(
            f"the hub has no model {model_id!r}, or it is private",
            allowed=_ACCEPTED,
            hint="check the spelling; for a private model run: hf auth login",
        ) from None
    except RevisionNotFoundError:
        raise BackboneError(
            f"model {model_id!r} has no revision {revision!r}",
            allowed="a branch, tag or commit of it",
            hint="leave the revision out for the newest",
        ) from None
    except LocalEntryNotFoundError:
        reason = "it cannot be reached"
    except EntryNotFoundError:
        raise BackboneError(
            f"{told} has no config.json on the hub, so transformers cannot load it",
            allowed=_ACCEPTED,
        ) from None
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise BackboneError(
                f"the hub refuses access to {told} ({error.response.status_code})",
                hint="hf auth login",
            ) from None
        reason = f"it answered {error.response.status_code}"
    except (unreachable, OSError):
        reason = "it cannot be reached"
    if fallback is None:
        raise BackboneError(
            f"{told} is not on this machine and cannot be had from the hub: {reason}",
            allowed=_ACCEPTED,
            hint="check the name and the connection, or use a model of the zoo: "
            + ", ".join(_zoo_names()),
        )
    return fallback


def _cached_commit(model_id: str, revision: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(model_id, "config.json", revision=revision)
    return Path(config).parent.name if isinstance(config, str) else None


def _identifying(folder: Path) -> list[Path]:
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    return [folder / "config.json", *weights]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _zoo_names() -> list[str]:
    return [entry.name for entry in zoo.entries()]


def _told(model_id: str, revision: str | None) -> str:
    return f"model {model_id!r}" + (f" at revision {revision!r}" if revision else "")


def _command(model_id: str, revision: str | None) -> str:
    return model_id + (f" --revision {revision}" if revision else "")
