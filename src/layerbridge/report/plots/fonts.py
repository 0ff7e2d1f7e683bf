"""Fonts for text in any script: which installed ones have the letters, and what to write instead.

No font comes with this library; matplotlib brings one, which has Latin, Greek, Cyrillic and little
else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

DEFAULT = "DejaVu Sans"

# They have a box for every letter that there is.
_PLACEHOLDERS = ("lastresort", "last resort", "blank", "tofu")
# Code points of one token that a label has room for.
_SHOWN = 4


def needed(texts: Iterable[str]) -> set[str]:
    """The characters that need a glyph: neither blanks nor controls nor joiners."""
    return {
        character
        for text in texts
        for character in text
        if unicodedata.category(character)[0] not in "ZC"
    }


def covering(characters: set[str]) -> tuple[list[str], set[str]]:
    """Installed font families that have the characters, and the characters that none has.

    Returns:
        Families in the order to try them, matplotlib's own first; and what is left over.
    """
    families, left = [DEFAULT], set(characters) - _own()
    if not left:
        return families, left
    for family, has in _installed():
        if left & has:
            families.append(family)
            left -= has
        if not left:
            break
    return families, left


def readable(tokens: Sequence[str], missing: set[str]) -> list[str]:
    """The tokens, those with a missing character as code points: ``U+0D9A U+0DD2``."""
    return [_code_points(token) if missing & set(token) else token for token in tokens]


def _code_points(token: str) -> str:
    shown = " ".join(f"U+{ord(character):04X}" for character in token[:_SHOWN])
    return shown if len(token) <= _SHOWN else f"{shown} …"


def _own() -> set[str]:
    from matplotlib.font_manager import findfont, get_font

    return _characters(get_font(findfont(DEFAULT)))


def _installed() -> Iterator[tuple[str, set[str]]]:
    """Families and their characters: upright and of normal weight first, then those without serif.

    The system is asked as well as matplotlib's list, which does not know what was installed since
    it was made.
    """
    from matplotlib.font_manager import findSystemFonts, fontManager, get_font

    known = {entry.fname for entry in fontManager.ttflist}
    found = []
    for path in sorted(known | set(findSystemFonts())):
        try:
            font = get_font(path)
        except (OSError, RuntimeError):
            continue  # broken, or of a kind that FreeType does not read
        name = font.family_name
        # A font of bitmaps alone, as those for emoji are, cannot be drawn at our size.
        if font.scalable and not any(word in name.lower() for word in _PLACEHOLDERS):
            plain = "regular" in font.style_name.lower() or "book" in font.style_name.lower()
            found.append(((not plain, "sans" not in name.lower(), name, path), font))
    for (_, _, name, path), font in sorted(found, key=lambda pair: pair[0]):
        if path not in known:
            fontManager.addfont(path)
        yield name, _characters(font)


def _characters(font: Any) -> set[str]:
    return {chr(code) for code in font.get_charmap()}
