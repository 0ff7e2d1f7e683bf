"""The demo task: what kind of thing does this name denote?

The names are those of the CLDR (Unicode's locale data) and come with Babel, so the task needs no
download, runs in minutes on a laptop, and exists in more than a hundred languages, Sinhala,
Assamese and Amharic among them. Six kinds: country (with territories), language, currency, script,
unit of measure, time zone.

It is a small, synthetic task: good for checking that transfer happens at all and for comparing
settings; no substitute for a benchmark of sentences.

How the split is made, and why it is honest:

- A code (``LK``, ``currency LKR``) is in one split only, so no test item, in whatever language, is
  a translation of a training item. Of codes with one English name, all but one are dropped.
- A name that two kinds share is unanswerable ("Arabic" is a language and a script), and is left
  out in the language where that happens.
- A name that repeats an English name is left out of the other languages: in German, Swahili and
  Vietnamese many country names are the English ones, and reading them would be no transfer.
- In a language with a script of its own, a name with Latin letters in it is left out: it is an
  abbreviation or a fallback.
- Test codes are taken first, those that most of the non-Latin reference languages can name, so
  that the languages' tests are about the same items as far as possible. In the rarest kind,
  script, the small locales name few, so nearly all of theirs are test codes.
- Order and split come from a hash of seed, kind and code: the same on every machine and Python.

What is left out of the CLDR: world regions ("001"), the European Union and like groupings, codes
for "unknown", "none" and "test", precious metals, and scripts that are no writing system (``Z…``).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from layerbridge.errors import DataError
from layerbridge.tasks.task import Row, Task, render

KINDS = ("country", "language", "currency", "script", "unit", "time zone")
LANGUAGES = (
    *("en", "si", "ta", "as", "am", "ka", "th", "sw"),
    *("bn", "hi", "ar", "zh", "ru", "vi", "de"),
)

TEST_PER_KIND = 30
VALIDATION_PER_KIND = 15

_SKIPPED = {
    "country": {"EU", "EZ", "UN", "QO", "XA", "XB", "ZZ"},
    "language": {"root", "und", "mul", "mis", "zxx"},
    "currency": {"XXX", "XTS", "XAG", "XAU", "XPD", "XPT", "XRE", "XSU", "XUA"},
}

# Kind → code → name.
Table = Mapping[str, Mapping[str, str]]


class Names(Task):
    """The kind of a name, in six kinds.

    Args:
        languages: CLDR codes to test on; English is always among them and comes first. The split
            does not depend on this choice: it is made on the 15 default languages.
        train_per_kind: at most so many training rows a kind; None for all (unbalanced, then).
        test_per_kind: at most so many test rows a kind and language, 30 or fewer.
        seed: of the split; another seed puts other codes in training.

    Raises:
        DataError: a language that Babel does not have, or a number out of range.
    """

    name = "names"
    description = "The kind of thing a name denotes, in six kinds; names from the CLDR."
    options = KINDS
    template = "{name}"
    licence = "Unicode-3.0 (CLDR data, as packaged by Babel, BSD-3-Clause)"

    def __init__(
        self,
        languages: Sequence[str] | None = None,
        train_per_kind: int | None = 135,
        test_per_kind: int = TEST_PER_KIND,
        seed: int = 0,
    ) -> None:
        if isinstance(languages, str):
            languages = [languages]
        self.languages = tuple(dict.fromkeys(("en", *(languages or LANGUAGES))))
        self.train_per_kind = train_per_kind
        self.test_per_kind = test_per_kind
        self.seed = seed
        unknown = [language for language in self.languages if not _exists(language)]
        if unknown:
            raise DataError(
                f"the task names has no names in {unknown[0]!r}",
                allowed=f"{', '.join(LANGUAGES)}, and every other locale of Babel",
            )
        if train_per_kind is not None and train_per_kind < 1:
            raise DataError(f"train_per_kind is {train_per_kind}", allowed="1 or more, or None")
        if not 1 <= test_per_kind <= TEST_PER_KIND:
            # More would have to come out of the training codes, and the split would move.
            raise DataError(f"test_per_kind is {test_per_kind}", allowed=f"1 to {TEST_PER_KIND}")

    def version(self) -> str:
        """Babel's version and the CLDR's: the rows are the same wherever these are."""
        import babel
        from babel import core

        cldr = getattr(core, "get_cldr_version", lambda: "unknown")()
        return f"Babel {babel.__version__}, CLDR {cldr}"

    def _train(self) -> list[Row]:
        return self._rows("en", _split(self.seed).train, self.train_per_kind)

    def _validation(self) -> list[Row]:
        return self._rows("en", _split(self.seed).validation, VALIDATION_PER_KIND)

    def _test(self, language: str) -> list[Row]:
        rows = self._rows(language, _split(self.seed).test, self.test_per_kind)
        if not rows:
            raise DataError(
                f"Babel's locale {language!r} has no names of its own", allowed=LANGUAGES
            )
        return rows

    def _rows(
        self, language: str, codes: Mapping[str, Sequence[str]], most: int | None
    ) -> list[Row]:
        named = _usable(language)
        rows = []
        for kind in KINDS:
            chosen = [code for code in codes[kind] if code in named[kind]][:most]
            for code in chosen:
                fields = {"name": named[kind][code], "kind": kind, "code": code}
                text = render(self.template, fields)
                rows.append(Row(f"{language}/{kind}/{code}", text, kind, language, fields))
        # Kinds one after the other would be a trap for whoever takes the first N. Not the hash of
        # the split: large kinds, of which the smallest hashes were taken, would come first.
        return sorted(rows, key=lambda row: _hash(self.seed, "order", row.id.partition("/")[2]))


@dataclass(frozen=True)
class _Split:
    """Kind → codes, in the order in which rows are taken; no code is in two of the three."""

    train: Mapping[str, Sequence[str]]
    validation: Mapping[str, Sequence[str]]
    test: Mapping[str, Sequence[str]]


@cache
def _split(seed: int) -> _Split:
    """Every code of every kind, put into one split.

    Codes come in an order of coverage first, hash second. A code is a test code if a reference
    language that still lacks test names can name it.
    """
    usable = {language: _usable(language) for language in LANGUAGES}
    own_script = [language for language in LANGUAGES if _script(language) != "Latn"]
    train, validation, test = {}, {}, {}
    for kind in KINDS:
        order = sorted(_kept(kind), key=lambda code: _hash(seed, kind, code))
        coverage = Counter(code for language in own_script for code in usable[language][kind])
        lacking = dict.fromkeys(LANGUAGES, TEST_PER_KIND)
        chosen = []
        for code in sorted(order, key=lambda code: -coverage[code]):
            named_by = [language for language in LANGUAGES if code in usable[language][kind]]
            if any(lacking[language] > 0 for language in named_by):
                chosen.append(code)
                for language in named_by:
                    lacking[language] -= 1
        test[kind] = chosen
        rest = [code for code in order if code not in set(chosen) and code in usable["en"][kind]]
        validation[kind] = rest[:VALIDATION_PER_KIND]
        train[kind] = rest[VALIDATION_PER_KIND:]
    return _Split(train, validation, test)


@cache
def _usable(language: str) -> Table:
    """The names of one language that make an honest question: see the top of this file."""
    names = {
        kind: {code: name for code, name in _cldr(language)[kind].items() if code in _kept(kind)}
        for kind in KINDS
    }
    kinds_of: dict[str, set[str]] = {}
    # Every name counts here, also of codes that are left out: "Arabic" stays ambiguous.
    for kind, of_kind in _cldr(language).items():
        for name in of_kind.values():
            kinds_of.setdefault(_key(name), set()).add(kind)
    latin = _script(language) == "Latn"
    usable: dict[str, dict[str, str]] = {}
    for kind in KINDS:
        seen: set[str] = set()
        usable[kind] = {}
        for code, name in sorted(names[kind].items()):
            key = _key(name)
            honest = (
                key not in seen
                and len(kinds_of[key]) == 1
                and (language == "en" or key not in _english_keys())
                and (latin or not _has_latin(name))
                and any(character.isalpha() for character in name)
            )
            if honest:
                usable[kind][code] = name
                seen.add(key)
    return usable


@cache
def _kept(kind: str) -> frozenset[str]:
    """The codes of a kind; of those with one English name, the first only."""
    first: dict[str, str] = {}
    for code, name in sorted(_cldr("en")[kind].items()):
        first.setdefault(_key(name), code)
    return frozenset(first.values())


@cache
def _english_keys() -> frozenset[str]:
    return frozenset(_key(name) for names in _cldr("en").values() for name in names.values())


@cache
def _cldr(language: str) -> Table:
    """All names of one language as Babel has them, less the codes that denote nothing."""
    locale = _locale(language)
    data = locale._data  # units and zones have no public mapping
    found: dict[str, dict[str, str | None]] = {
        # Numeric codes are regions of the world.
        "country": {code: name for code, name in locale.territories.items() if code.isalpha()},
        "language": dict(locale.languages),
        "currency": dict(locale.currencies),
        "script": {code: name for code, name in locale.scripts.items() if code[0] != "Z"},
        # The CLDR leaves the long form out where it is the short one.
        "unit": {
            code: names.get("long") or names.get("short")
            for code, names in data["unit_display_names"].items()
        },
        "time zone": {
            code: _first(names.get("long", {}), ("generic", "standard"))
            for code, names in data["meta_zones"].items()
        },
    }
    return {
        kind: {
            code: unicodedata.normalize("NFC", name).strip()
            for code, name in found[kind].items()
            # A locale can inherit the bare code as a name.
            if name and name != code and code not in _SKIPPED.get(kind, ())
        }
        for kind in KINDS
    }


def _first(names: Mapping[str, str], keys: Iterable[str]) -> str | None:
    return next((names[key] for key in keys if names.get(key)), None)


def _exists(language: str) -> bool:
    from babel import UnknownLocaleError

    try:
        _locale(language)
    except (ValueError, UnknownLocaleError):
        return False
    return True


def _locale(language: str) -> Any:
    from babel import Locale

    return Locale.parse(language, sep="-" if "-" in language else "_")


@cache
def _script(language: str) -> str:
    """The ISO 15924 code of the script that the locale is written in, ``Sinh`` for ``si``."""
    from babel.core import get_global

    locale = _locale(language)
    if locale.script:
        return str(locale.script)
    likely = get_global("likely_subtags")
    full = likely.get(str(locale)) or likely.get(locale.language) or ""
    return next((part for part in full.split("_") if len(part) == 4), "Latn")


def _has_latin(name: str) -> bool:
    return any("LATIN" in unicodedata.name(character, "") for character in name)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()


def _hash(seed: int, kind: str, code: str) -> str:
    return hashlib.sha256(f"{seed}/{kind}/{code}".encode()).hexdigest()
