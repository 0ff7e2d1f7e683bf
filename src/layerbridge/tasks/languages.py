"""Languages: their English names, their scripts, and how much of a pretraining corpus they are.

Names and scripts are the CLDR's, which come with Babel. Sizes of corpora are in ``languages.json``,
with the paper each is from; what no paper says stays unknown. Knows nothing of models or results.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

# Codes that corpora and benchmarks write in an older way.
_OLD = {"iw": "he", "in": "id", "ji": "yi", "tl": "fil", "nb": "no"}
_SCRIPT = re.compile(r"[A-Za-z]{4}")
# The CLDR calls these two "Simplified" and "Traditional", which say little when alone.
_HAN = ("Hans", "Hant")


@dataclass(frozen=True)
class Corpus:
    """A pretraining corpus.

    Attributes:
        name: such as ``mC4``.
        source: the paper, and the table in it.
        unit: of the sizes.
        encoders: parts of the names of encoders that were trained on it, in lower case.
        sizes: language → size, before any sampling.
    """

    name: str
    source: str
    unit: str
    encoders: tuple[str, ...]
    sizes: Mapping[str, float]

    def share(self, code: str) -> float | None:
        """What part of the corpus is in a language, 0 to 1; None where the source does not say."""
        size = self.sizes.get(_normal(code))
        return None if size is None else size / sum(self.sizes.values())


@cache
def corpora() -> tuple[Corpus, ...]:
    """The corpora whose sizes are known here."""
    text = (
        resources.files("layerbridge.tasks").joinpath("languages.json").read_text(encoding="utf-8")
    )
    return tuple(
        Corpus(name, entry["source"], entry["unit"], tuple(entry["encoders"]), entry["sizes"])
        for name, entry in json.loads(text).items()
    )


def corpus_of(encoder: str | None) -> Corpus | None:
    """The corpus that an encoder, or the one it was made from, was trained on.

    Args:
        encoder: a folder, ``zoo:NAME`` or a hub id; None where it is not known.
    """
    name = re.split(r"[/\\:]", (encoder or "").rstrip("/\\").lower())[-1]
    for corpus in corpora():
        # At the start of a word: umT5 was trained on another corpus than mT5.
        if any(re.search(rf"(?<![a-z0-9]){re.escape(part)}", name) for part in corpus.encoders):
            return corpus
    return None


def names(codes: Iterable[str]) -> dict[str, str]:
    """English names by code; a code that the CLDR does not know names itself."""
    from babel import Locale

    known = Locale("en").languages
    return {code: known.get(code.replace("-", "_"), code) for code in codes}


def script(code: str) -> str | None:
    """The English name of the script that a language is mostly written in; None if unknown."""
    from babel import Locale
    from babel.core import get_global

    parts = code.replace("-", "_").split("_")
    found = next((part.title() for part in parts[1:] if _SCRIPT.fullmatch(part)), None)
    if found is None:
        likely = get_global("likely_subtags")
        known = likely.get("_".join(parts)) or likely.get(parts[0]) or ""
        found = next((part for part in known.split("_")[1:] if _SCRIPT.fullmatch(part)), None)
    name = Locale("en").scripts.get(found)
    return f"{name} Han" if found in _HAN else name


def _normal(code: str) -> str:
    language, *rest = code.replace("_", "-").split("-")
    language = _OLD.get(language.lower(), language.lower())
    script_ = [part.title() for part in rest if _SCRIPT.fullmatch(part)]
    # Of a script other than its usual one, a language has an entry of its own or none.
    usual = not script_ or script_[0] != "Latn" or script(language) == "Latin"
    return language if usual else f"{language}-{script_[0]}"
