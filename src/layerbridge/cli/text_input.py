"""Text from outside: the words of the command line and the lines of stdin, UTF-8 or refused."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from layerbridge.errors import DataError
from layerbridge.progress import say
from layerbridge.tasks.text import has_surrogate

_HINT = "convert it to UTF-8, for example with iconv"


def check_words(words: Iterable[str]) -> None:
    """Checks the words of the command line; Python hides bytes that are not UTF-8 in them.

    Raises:
        DataError: a word has such bytes.
    """
    for word in words:
        if has_surrogate(word):
            raise DataError(f"the argument {word!a} is not UTF-8", hint=_HINT)


def stdin_lines() -> Iterator[str]:
    """Yields the lines of stdin, each as soon as it is there, without a byte order mark.

    Lines without text are skipped; at the end, even at an early one, it says how many.

    Raises:
        DataError: a line is not UTF-8.
    """
    # Not the text stream, whose encoding and treatment of errors depend on the locale.
    stream: Any = getattr(sys.stdin, "buffer", sys.stdin)
    number = empty = 0
    try:
        for number, line in enumerate(stream, start=1):
            text = _decoded(line, number).rstrip("\r\n")
            if text.strip():
                yield text
            else:
                empty += 1
    finally:
        if empty:
            say(f"empty lines skipped: {empty} of {number} on stdin")


def _decoded(line: bytes | str, number: int) -> str:
    try:
        text = line.decode() if isinstance(line, bytes) else line
    except UnicodeDecodeError as error:
        raise DataError(
            f"stdin, line {number} is not UTF-8 (byte {error.start + 1} of the line)", hint=_HINT
        ) from None
    return text.removeprefix("\ufeff") if number == 1 else text
