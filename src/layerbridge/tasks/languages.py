"""Languages: their English names, their scripts, and their shares of pretraining corpora.

Names and scripts come from the CLDR, as packaged by Babel. Corpus sizes are in ``languages.json``,
each with its paper; what no paper states is unknown. Knows nothing about models or results.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Older codes that corpora and benchmarks use.
_OLD = {"iw": "he", "in": "id", "ji": "yi", "tl": "fil", "nb": "no"}
_SCRIPT = re.compile(r"[A-Za-z]{4}")
# The CLDR names these two "Simplified" and "Traditional", which is unclear on its own.
_HAN = ("Hans", "Hant")


@dataclass(frozen=True)
class Corpus:
    """A pretraining corpus.

    Attributes:
        name: such as ``mC4``.
        source: the paper and its table.
        unit: of the sizes.
        encoders: parts of the names of encoders trained on it, in lower case.
        sizes: language → size, before any sampling.
    """

    name: str
    source: str
    unit: str
    encoders: tuple[str, ...]
    sizes: Mapping[str, float]

    def share(self, code: str) -> float | None:
        """Returns a language's share of the corpus, 0 to 1; None if it is unknown."""
        size = self.sizes.get(_normal(code))
        return None if size is None else size / sum(self.sizes.values())


@cache
def corpora() -> tuple[Corpus, ...]:
    """Returns the corpora with known sizes."""
    text = Path(__file__).with_name("languages.json").read_text(encoding="utf-8")
    return tuple(
        Corpus(name, entry["source"], entry["unit"], tuple(entry["encoders"]), entry["sizes"])
        for name, entry in json.loads(text).items()
    )


def corpus_of(encoder: str | None) -> Corpus | None:
    """Returns the corpus that an encoder, or its base model, was trained on.

    Args:
        encoder: a folder, ``zoo:NAME`` or a hub id; None if it is unknown.
    """
    name = re.split(r"[/\\:]", (encoder or "").rstrip("/\\").lower())[-1]
    for corpus in corpora():
        # Only at the start of a word: umT5 was trained on another corpus than mT5.
        if any(re.search(rf"(?<![a-z0-9]){re.escape(part)}", name) for part in corpus.encoders):
            return corpus
    return None


def names(codes: Iterable[str]) -> dict[str, str]:
    """Returns English names by code; a code unknown to the CLDR stands for itself."""
    from babel import Locale

    known = Locale("en").languages
    return {code: known.get(code.replace("-", "_"), code) for code in codes}


def script(code: str) -> str | None:
    """Returns the English name of a language's main script; None if it is unknown."""
    from babel import Locale

    iso_code = script_code(code)
    name = Locale("en").scripts.get(iso_code)
    return f"{name} Han" if iso_code in _HAN else name


def script_code(code: str) -> str | None:
    """Returns the ISO 15924 code of a language's main script, ``Sinh`` for ``si``."""
    from babel.core import get_global

    language, *rest = code.replace("-", "_").split("_")
    likely = get_global("likely_subtags")
    known = likely.get("_".join([language, *rest])) or likely.get(language) or ""
    subtags = (*rest, *known.split("_")[1:])
    return next((part.title() for part in subtags if _SCRIPT.fullmatch(part)), None)


def _normal(code: str) -> str:
    language, *rest = code.replace("_", "-").split("-")
    language = _OLD.get(language.lower(), language.lower())
    scripts = [part.title() for part in rest if _SCRIPT.fullmatch(part)]
    # In a script other than its usual one, a language has a separate entry or none.
    usual = not scripts or scripts[0] != "Latn" or script(language) == "Latin"
    return language if usual else f"{language}-{scripts[0]}"
