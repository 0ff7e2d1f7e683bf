"""``NAME=RUN``: a run with the name that its user gives it."""

from __future__ import annotations

from pathlib import Path


def split_name(run: str | Path) -> tuple[str | None, str]:
    """``"mine=runs/x"`` → ``("mine", "runs/x")``; without a name, ``(None, "runs/x")``.

    What exists is a path, since a folder's name may contain "=".
    """
    name, mark, path = str(run).partition("=")
    named = mark and name.strip() and path and not Path(run).exists()
    return (name.strip(), path) if named else (None, str(run))
