"""``layerbridge env``: what belongs into a bug report."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from layerbridge.cli import options as o
from layerbridge.version import __version__

# What changes where models are, what is downloaded, or how fast it runs.
_VARIABLES = re.compile(
    r"(HF|LAYERBRIDGE|TRANSFORMERS|TORCH|CUDA|OMP|MKL|TRITON|VLLM|TOKENIZERS)_.*|.*_PROXY",
    re.IGNORECASE,
)
_SECRET = re.compile(r"TOKEN$|KEY|SECRET|PASSWORD|_PROXY", re.IGNORECASE)
_NVIDIA = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
_PATIENCE_S = 5.0


def env(as_json: o.Json = False) -> None:
    """Print versions, machine and settings for a bug report.

    Nothing is imported or downloaded. Of variables that may be secret, only that they are set.
    """
    import platform

    found = {
        "layerbridge": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": _memory(),
        "gpus": _gpus(),
        "folder": str(Path(__file__).resolve().parents[1]),
        "packages": _packages(),
        "environment": _environment(),
    }
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{name}:" if value else f"{name}: none")
            for inner, each in value.items():
                print(f"  {inner}: {each}")
        else:
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"{name}: {'none' if shown in ('', None) else shown}")


def _packages() -> dict[str, str]:
    """Versions of what layerbridge asks for, by name; of extras, what is installed."""
    from importlib import metadata

    try:
        requirements = metadata.requires("layerbridge") or []
    except metadata.PackageNotFoundError:  # run from its source
        requirements = ["torch", "transformers", "huggingface-hub"]
    versions = {}
    for requirement in requirements:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        is_extra = "extra ==" in requirement
        if name == "layerbridge":
            continue
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if not is_extra:
                versions[name] = "missing"
    return dict(sorted(versions.items()))


def _environment() -> dict[str, str]:
    return {
        name: "set" if _SECRET.search(name) else value
        for name, value in sorted(os.environ.items())
        if _VARIABLES.fullmatch(name)
    }


def _gpus() -> list[str]:
    """What the driver says; torch would take seconds to import."""
    import shutil
    import subprocess

    if shutil.which(_NVIDIA[0]) is None:
        return []
    try:
        done = subprocess.run(
            _NVIDIA, capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return [f"nvidia-smi failed ({error})"]
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _processor() -> str:
    """The name of the CPU, which Linux keeps in a file."""
    import platform

    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> str:
    import psutil  # type: ignore[import-untyped]

    return f"{psutil.virtual_memory().total / 2**30:.1f} GiB"
