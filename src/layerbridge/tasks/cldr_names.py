"""The demo task: what kind of thing does this name denote?

The names come from the CLDR (Unicode's locale data) by way of Babel, so the task needs no download,
runs in minutes on a laptop, and exists in over a hundred languages, among them Sinhala, Assamese
and Amharic. There are six kinds: country (with territories), language, currency, script, unit of
measure, time zone. The task is small and synthetic: good for checking that transfer happens at all
and for comparing settings, but no substitute for a benchmark of sentences.

How the split is made:

- A code (``LK``, ``currency LKR``) is in one split only, so no test item, in any language, is a
  translation of a training item. Of codes with the same English name, only one is kept.
- A name of two kinds ("Arabic" is a language and a script) is ambiguous and left out in that
  language.
- A name that equals an English name is left out of the other languages: German, Swahili and
  Vietnamese have many English country names, and reading those would not be transfer.
- In a language with its own script, a name with Latin letters is left out: it is an abbreviation
  or a fallback.
- Test codes are taken first, those that most of the non-Latin reference languages can name, so the
  languages are tested on the same items as far as possible. For the rarest kind, script, nearly all
  names of small locales are test codes.
- Order and split come from a hash of seed, kind and code: the same on every machine and Python.

Left out of the CLDR: world regions ("001"), groupings such as the European Union, codes for
"unknown", "none" and "test", precious metals, and scripts that are not writing systems (``Z…``).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from layerbridge.errors import DataError
from layerbridge.tasks.languages import own_code, script_code
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
    """The kind of a name, out of six.

    Args:
        languages: CLDR codes to test on; English is always first. The split does not depend on
            them: it is made with the 15 default languages.
        train_per_kind: maximum number of training rows per kind; None for all (unbalanced).
        test_per_kind: maximum number of test rows per kind and language, at most 30.
        seed: of the split; another seed puts other codes into training.

    Raises:
        DataError: Babel does not have a language, or a number is out of range.
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
        codes = [own_code(code, ("en", *LANGUAGES)) for code in languages or LANGUAGES]
        self.languages = tuple(dict.fromkeys(("en", *codes)))
        self.train_per_kind = train_per_kind
        self.test_per_kind = test_per_kind
        self.seed = seed
        unknown = [language for language in self.languages if not _exists(language)]
        if unknown:
            raise DataError(
                f"the task names has no names in {unknown[0]!r}",
                allowed=f"{', '.join(LANGUAGES)}, and any other locale of Babel",
            )
        if train_per_kind is not None and train_per_kind < 1:
            raise DataError(f"train_per_kind is {train_per_kind}", allowed="1 or more, or None")
        if not 1 <= test_per_kind <= TEST_PER_KIND:
            # More would have to come from the training codes and change the split.
            raise DataError(f"test_per_kind is {test_per_kind}", allowed=f"1 to {TEST_PER_KIND}")

    def version(self) -> str:
        """Returns the versions of Babel and the CLDR, which determine the rows."""
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
        names_by_kind = _usable(language)
        rows = []
        for kind in KINDS:
            chosen = [code for code in codes[kind] if code in names_by_kind[kind]][:most]
            for code in chosen:
                fields = {"name": names_by_kind[kind][code], "kind": kind, "code": code}
                text = render(self.template, fields)
                item = f"{kind}/{code}"
                rows.append(Row(f"{language}/{item}", text, kind, language, fields, item))
        # Mixed, so that the first N rows have all kinds. Not by the hash of the split: large kinds,
        # of which the smallest hashes were taken, would come first.
        return sorted(rows, key=lambda row: _hash(self.seed, "order", row.id.partition("/")[2]))


@dataclass(frozen=True)
class _Split:
    """Kind → codes, in the order in which rows are taken; the three are disjoint."""

    train: Mapping[str, Sequence[str]]
    validation: Mapping[str, Sequence[str]]
    test: Mapping[str, Sequence[str]]


@cache
def _split(seed: int) -> _Split:
    """Assigns every code to one split, in the order of coverage, then hash.

    A code is a test code if it has a name in a reference language that still lacks test names.
    """
    usable = {language: _usable(language) for language in LANGUAGES}
    own_script = [language for language in LANGUAGES if _has_own_script(language)]
    train, validation, test = {}, {}, {}
    for kind in KINDS:
        order = sorted(_unique_codes(kind), key=lambda code: _hash(seed, kind, code))
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
    """The names of one language that make a fair question: see the top of this file."""
    cldr = _cldr(language)
    # Counts the names of all codes, including those left out: "Arabic" stays ambiguous.
    kinds_of: dict[str, set[str]] = {}
    for kind, names in cldr.items():
        for name in names.values():
            kinds_of.setdefault(_key(name), set()).add(kind)
    latin = not _has_own_script(language)
    usable: dict[str, dict[str, str]] = {}
    for kind in KINDS:
        seen: set[str] = set()
        usable[kind] = {}
        for code, name in sorted(cldr[kind].items()):
            key = _key(name)
            fair = (
                code in _unique_codes(kind)
                and key not in seen
                and len(kinds_of[key]) == 1
                and (language == "en" or key not in _english_keys())
                and (latin or not _has_latin(name))
                and any(character.isalpha() for character in name)
            )
            if fair:
                usable[kind][code] = name
                seen.add(key)
    return usable


@cache
def _unique_codes(kind: str) -> frozenset[str]:
    """The codes of a kind; of those with the same English name, only the first."""
    first: dict[str, str] = {}
    for code, name in sorted(_cldr("en")[kind].items()):
        first.setdefault(_key(name), code)
    return frozenset(first.values())


@cache
def _english_keys() -> frozenset[str]:
    return frozenset(_key(name) for names in _cldr("en").values() for name in names.values())


@cache
def _cldr(language: str) -> Table:
    """All names of one language in Babel, without the codes that denote nothing."""
    locale = _locale(language)
    data = locale._data  # units and time zones have no public mapping
    names: dict[str, dict[str, str | None]] = {
        # Numeric codes are world regions.
        "country": {code: name for code, name in locale.territories.items() if code.isalpha()},
        "language": dict(locale.languages),
        "currency": dict(locale.currencies),
        "script": {code: name for code, name in locale.scripts.items() if code[0] != "Z"},
        # The CLDR omits the long form where it equals the short one.
        "unit": {
            code: forms.get("long") or forms.get("short")
            for code, forms in data["unit_display_names"].items()
        },
        "time zone": {
            code: forms.get("long", {}).get("generic") or forms.get("long", {}).get("standard")
            for code, forms in data["meta_zones"].items()
        },
    }
    return {
        kind: {
            code: unicodedata.normalize("NFC", name).strip()
            for code, name in names[kind].items()
            # A locale can inherit the bare code as a name.
            if name and name != code and code not in _SKIPPED.get(kind, ())
        }
        for kind in KINDS
    }


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


def _has_own_script(language: str) -> bool:
    return script_code(str(_locale(language))) not in ("Latn", None)


def _has_latin(name: str) -> bool:
    return any("LATIN" in unicodedata.name(character, "") for character in name)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()


def _hash(seed: int, kind: str, code: str) -> str:
    return hashlib.sha256(f"{seed}/{kind}/{code}".encode()).hexdigest()
