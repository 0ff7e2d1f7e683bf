"""What counts as the same text, and what is not text. Knows nothing about rows and files."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from layerbridge.errors import DataError

_SURROGATE = re.compile(r"[\ud800-\udfff]")
# Soft hyphens, joiners, direction marks, variation selectors, byte order marks: what two copies of
# one text can differ in without anybody seeing it.
_INVISIBLE = re.compile(
    r"[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)


def comparison_key(text: str) -> str:
    """Returns what two texts share if they differ only in case, white space or Unicode form.

    The form is NFKC, in which é is one character or two, and full-width letters are letters.
    """
    if text.isascii():  # is in that form, and has nothing invisible
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()
    # Folding case can undo the form.
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def same_spelling(text: str) -> str:
    """Returns the text in NFC, for labels and options that look the same."""
    return unicodedata.normalize("NFC", text)


def has_surrogate(text: str) -> bool:
    """Returns whether a text has half of a surrogate pair, and so cannot be written as UTF-8.

    It may be from a JSON or YAML escape, or stand for a byte that is not UTF-8.
    """
    return not text.isascii() and _SURROGATE.search(text) is not None


def check_unicode(text: str, where: str) -> None:
    """Checks that a text can be written as UTF-8, and so read by a tokenizer.

    Args:
        text: from a JSON or YAML escape, or undecodable bytes that Python has smuggled through.
        where: what has the text, for the message.

    Raises:
        DataError: it has half of a surrogate pair.
    """
    if text.isascii():
        return
    half = _SURROGATE.search(text)
    if half is not None:
        raise DataError(
            f"{where} has an unpaired surrogate (\\u{ord(half[0]):x}), which is half a character",
            hint="write it again as UTF-8",
        )


def check_unicode_in(content: Any, where: str) -> None:
    """Checks every text in the lists and mappings of a YAML file, as ``check_unicode``."""
    if isinstance(content, str):
        check_unicode(content, where)
    elif isinstance(content, dict):
        check_unicode_in([*content, *content.values()], where)
    elif isinstance(content, list):
        for item in content:
            check_unicode_in(item, where)
