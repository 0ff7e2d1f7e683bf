"""Fonts for text in any script.

matplotlib comes with one font, which covers Latin, Greek, Cyrillic and little else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress

DEFAULT = "DejaVu Sans"

# Fonts with a placeholder glyph for every character.
_PLACEHOLDERS = ("lastresort", "last resort", "blank", "tofu")
# Code points that a label has room for.
_MAX_CODE_POINTS = 4


def covering(texts: Iterable[str]) -> tuple[list[str], set[str]]:
    """Returns installed font families that cover the texts, and the characters that none covers."""
    # Separators, controls and joiners need no glyph.
    missing = {c for text in texts for c in text if unicodedata.category(c)[0] not in "ZC"}
    families = []
    for family, characters in _installed():
        if family == DEFAULT or missing & characters:
            families.append(family)
            missing -= characters
        if not missing:
            break
    return families, missing


def readable(text: str, missing: set[str]) -> str:
    """Returns the text, or its code points if it has a missing character: ``U+0D9A U+0DD2``."""
    if not missing & set(text):
        return text
    points = " ".join(f"U+{ord(character):04X}" for character in text[:_MAX_CODE_POINTS])
    return points if len(text) <= _MAX_CODE_POINTS else f"{points} …"


def _installed() -> Iterator[tuple[str, set[str]]]:
    """Families and their characters: the default, then upright, regular and sans-serif first."""
    from matplotlib.font_manager import findfont, findSystemFonts, fontManager

    yield DEFAULT, _characters(findfont(DEFAULT))
    # matplotlib's list is cached: it lacks fonts that were installed since.
    for path in sorted({*findSystemFonts()} - {entry.fname for entry in fontManager.ttflist}):
        with suppress(OSError, RuntimeError):  # broken, or not supported by FreeType
            fontManager.addfont(path)
    # Bitmap fonts, such as those of emoji, cannot be scaled to our size.
    entries = [entry for entry in fontManager.ttflist if entry.size == "scalable"]
    for entry in sorted(
        entries,
        key=lambda e: (e.style != "normal", e.weight != 400, "sans" not in e.name.lower(), e.name),
    ):
        if not any(word in entry.name.lower() for word in _PLACEHOLDERS):
            with suppress(OSError, RuntimeError):
                yield entry.name, _characters(entry.fname)


def _characters(path: str) -> set[str]:
    from matplotlib.font_manager import get_font

    return set(map(chr, get_font(path).get_charmap()))
