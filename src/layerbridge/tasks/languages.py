"""Languages: their codes, English names, scripts, and shares of pretraining corpora.

ISO 639-1 (``sw``), ISO 639-3 (``swa``, ``swh``) and FLORES codes (``swh_Latn``) name one language.
Codes, names and scripts come from the CLDR, as packaged by Babel. Corpus sizes are in
``languages.json``, each with its paper; what no paper states is unknown. Knows nothing about models
or results.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# FLORES codes of a macrolanguage's main member that the CLDR does not call by its name; and
# Norwegian, which is written as Bokmål unless it is called Nynorsk.
_MAIN = {"nb": "no", "pbt": "ps", "quy": "qu", "fuv": "ff"}
# A script that FLORES names, and the CLDR's for all that the language is written in.
_WITHIN = {"Hang": "Kore"}
_SCRIPT = re.compile(r"[A-Za-z]{4}")
_REGION = re.compile(r"[A-Za-z]{2}|[0-9]{3}")
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

    english = Locale("en")
    known = english.languages

    def name(code: str) -> str:
        own, shortest = code.replace("-", "_"), canonical(code)
        if named := known.get(own) or known.get(shortest.replace("-", "_")):
            return str(named)
        language, *rest = shortest.split("-")
        if language not in known:
            return code
        subtags = (english.scripts.get(tag) or english.territories.get(tag, tag) for tag in rest)
        return f"{known[language]} ({', '.join(subtags)})"

    return {code: name(code) for code in codes}


@cache
def canonical(code: str) -> str:
    """Returns the shortest code of a language, the same for all codes that name it.

    ``sw`` for ``swa``, ``swh`` and ``swh_Latn``. A script or region is kept only where it is not
    the usual one: ``zh-Hant``, ``ace-Arab``, ``pt-PT``. An unknown code stands for itself.
    """
    from babel.core import get_global

    aliases, likely = get_global("language_aliases"), get_global("likely_subtags")
    head, *rest = code.replace("-", "_").split("_")
    head = head.lower()
    # An alias may come with a script or a region: Dari is fa_AF.
    language, *implied = aliases.get(head, head).split("_")
    language = _MAIN.get(language, language)
    usual = likely.get(language)
    subtags = [*rest, *implied]
    if usual is None or not all(
        _SCRIPT.fullmatch(tag) or _REGION.fullmatch(tag) for tag in subtags
    ):
        return code
    scripts = (_WITHIN.get(tag.title(), tag.title()) for tag in subtags if _SCRIPT.fullmatch(tag))
    script = next(scripts, None)
    region = next((tag.upper() for tag in subtags if _REGION.fullmatch(tag)), None)
    usual_script = usual.split("_")[1]
    if script is None and region is not None:
        script = likely.get(f"{language}_{region}", usual).split("_")[1]
    script = script or usual_script
    expected = likely.get(f"{language}_{script}", usual).split("_")[2]
    kept = [language]
    if script != usual_script:
        kept.append(script)
    if region not in (None, expected):
        kept.append(str(region))
    return "-".join(kept)


def own_code(code: str, codes: Collection[str]) -> str:
    """Returns the one of these codes that names the same language; the code itself if none does.

    Without Babel, only equal codes do.
    """
    if code in codes:
        return code
    try:
        wanted = canonical(code)
    except ImportError:
        return code
    return next((each for each in codes if canonical(each) == wanted), code)


def script(code: str) -> str | None:
    """Returns the English name of a language's main script; None if it is unknown."""
    from babel import Locale

    iso_code = script_code(code)
    name = Locale("en").scripts.get(iso_code)
    return f"{name} Han" if iso_code in _HAN else name


def script_code(code: str) -> str | None:
    """Returns the ISO 15924 code of a language's main script, ``Sinh`` for ``si``."""
    from babel.core import get_global

    language, *rest = canonical(code).replace("-", "_").split("_")
    likely = get_global("likely_subtags")
    known = likely.get("_".join([language, *rest])) or likely.get(language) or ""
    subtags = (*rest, *known.split("_")[1:])
    return next((part.title() for part in subtags if _SCRIPT.fullmatch(part)), None)


def _normal(code: str) -> str:
    language, *rest = canonical(code).split("-")
    scripts = [part.title() for part in rest if _SCRIPT.fullmatch(part)]
    # In a script other than its usual one, a language has a separate entry or none.
    usual = not scripts or scripts[0] != "Latn" or script(language) == "Latin"
    return language if usual else f"{language}-{scripts[0]}"
