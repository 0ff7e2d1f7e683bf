"""The lines typed into ``layerbridge chat``, and their history."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

from layerbridge.progress import say

PROMPT = "> "

_HISTORY_LINES = 1000


def typed_lines(*, save_history: bool) -> Generator[str]:
    """Yields the typed lines until the end or ``/quit``; closing it saves the history."""
    file = _read_history() if save_history else None
    try:
        while True:
            try:
                line = _read_line()
            except EOFError:
                say("")
                return
            except KeyboardInterrupt:
                say("\n(/quit or Ctrl-D quits)")
                continue
            if line.strip() == "/quit":
                return
            yield line
    finally:
        if file is not None:
            _write_history(file)


def _read_line() -> str:
    # If stdout is not a terminal, input() would write the prompt among the answers.
    if sys.stdout.isatty():
        return input(PROMPT)
    print(PROMPT, end="", file=sys.stderr, flush=True)
    return input()


def _read_history() -> Path | None:
    """Reads the history into readline; None if there is no readline."""
    from layerbridge.hub.zoo.store import home

    try:
        import readline
    except ImportError:
        return None
    file = home() / "chat-history"
    with suppress(OSError):
        readline.read_history_file(file)
    readline.set_history_length(_HISTORY_LINES)
    return file


def _write_history(file: Path) -> None:
    import readline

    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        readline.write_history_file(file)
        file.chmod(0o600)  # private
