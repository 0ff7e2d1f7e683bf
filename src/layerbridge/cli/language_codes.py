"""``--languages``: which of a task's or a table's languages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from layerbridge.tasks import Task

LANGUAGES: Any = typer.Option(None, help="Codes with commas; all if not given.")


def codes(given: str | None) -> list[str] | None:
    """``"en, si"`` → ``["en", "si"]``; None if none were given."""
    return [code.strip() for code in given.split(",")] if given else None


def codes_of(task: Task, given: str | None) -> list[str]:
    """The codes that were given, or all of the task's; no row is read.

    Raises:
        DataError: the task has no test rows in one of them.
    """
    chosen = codes(given) or list(task.languages)
    for code in chosen:
        task.check_language(code)
    return chosen
