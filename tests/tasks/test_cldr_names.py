"""The demo task. What is checked is derived anew from Babel, not taken from the task's own code."""

import hashlib
import os
import subprocess
import sys
import unicodedata
from collections import Counter
from functools import cache

import pytest
from babel import Locale

from layerbridge import tasks
from layerbridge.errors import DataError

KINDS = ["country", "language", "currency", "script", "unit", "time zone"]
LANGUAGES = [
    "en",
    "si",
    "ta",
    "as",
    "am",
    "ka",
    "th",
    "sw",
    "bn",
    "hi",
    "ar",
    "zh",
    "ru",
    "vi",
    "de",
]
# First words of Unicode's character names.
SCRIPTS = {
    "si": "SINHALA",
    "ta": "TAMIL",
    "as": "BENGALI",
    "am": "ETHIOPIC",
    "ka": "GEORGIAN",
    "th": "THAI",
    "bn": "BENGALI",
    "hi": "DEVANAGARI",
    "ar": "ARABIC",
    "zh": "CJK",
    "ru": "CYRILLIC",
}


@cache
def task(**options):
    return tasks.get("names", **options)


def item(row):
    return row.fields["kind"], row.fields["code"]


def everything(names):
    return [
        *names.train(),
        *names.validation(),
        *(r for c in names.languages for r in names.test(c)),
    ]


@pytest.mark.parametrize("options", [{}, {"train_per_kind": None}, {"seed": 3}])
def test_no_item_is_in_two_splits(options):
    names = task(**options)
    train, validation = ({item(r) for r in rows} for rows in (names.train(), names.validation()))
    test = {item(row) for code in names.languages for row in names.test(code)}
    assert train
    assert validation
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_no_test_name_is_an_english_name_seen_before():
    names = task(train_per_kind=None)
    train = Counter(row.text.casefold() for row in names.train())
    validation = Counter(row.text.casefold() for row in names.validation())
    assert max(train.values()) == max(validation.values()) == 1
    assert not train.keys() & validation.keys()
    seen = train.keys() | validation.keys()
    for code in names.languages:
        assert not seen & {row.text.casefold() for row in names.test(code)}


def test_no_test_name_is_an_untranslated_one():
    english = Locale("en")
    known = {
        name.casefold()
        for names in (english.territories, english.languages, english.currencies, english.scripts)
        for name in names.values()
    }
    for code in LANGUAGES[1:]:
        assert not known & {row.text.casefold() for row in task().test(code)}


@pytest.mark.parametrize("code", SCRIPTS)
def test_names_are_in_the_languages_own_script(code):
    for row in task().test(code):
        letters = [unicodedata.name(c) for c in row.text if unicodedata.category(c) == "Lo"]
        letters += [
            unicodedata.name(c) for c in row.text if unicodedata.category(c)[:2] in ("Ll", "Lu")
        ]
        assert letters, row
        assert all(letter.startswith(SCRIPTS[code]) for letter in letters), row


def test_names_are_babels():
    locale = Locale("si")
    mappings = {
        "country": locale.territories,
        "language": locale.languages,
        "currency": locale.currencies,
        "script": locale.scripts,
    }
    rows = [row for row in task().test("si") if row.target in mappings]
    assert len(rows) == 120
    for row in rows:
        kind, code = item(row)
        name = unicodedata.normalize("NFC", mappings[kind][code])
        assert (row.text, row.target) == (name, kind)
        assert row.id == f"si/{kind}/{code}"


def test_no_name_has_two_answers():
    for code in LANGUAGES:
        answers = {}
        for row in task().test(code):
            answers.setdefault(row.text.casefold(), []).append(row.target)
        assert all(len(targets) == 1 for targets in answers.values())
    # A language and a script in English; the two are told apart in Chinese.
    texts = {row.text for row in [*task(train_per_kind=None).train(), *task().test("en")]}
    assert not {"Arabic", "Armenian", "Nauru"} & texts


def test_kinds_are_balanced():
    names = task()
    assert list(names.options) == KINDS
    assert names.languages == tuple(LANGUAGES)
    for code in LANGUAGES:
        counts = Counter(row.target for row in names.test(code))
        # Swahili names 58 scripts, and shares many of those names with its languages.
        expected = dict.fromkeys(KINDS, 30) | ({"script": counts["script"]} if code == "sw" else {})
        assert counts == expected
        assert counts["script"] >= 20
    assert Counter(r.target for r in names.validation()) == dict.fromkeys(KINDS, 15)
    train = Counter(row.target for row in names.train())
    assert max(train.values()) == 135
    assert min(train.values()) >= 70
    assert sum(train.values()) >= 700


def test_the_languages_are_asked_about_the_same_things():
    hindi = {item(row) for row in task().test("hi")}
    for code in SCRIPTS:
        assert len(hindi & {item(row) for row in task().test(code)}) >= 170


def test_kinds_are_mixed():
    for rows in (task().train(), task().test("si")):
        assert len({row.target for row in rows[:20]}) >= 5


def test_options_do_not_move_the_split():
    few = task(languages=("fr", "si"), test_per_kind=10, train_per_kind=20)
    assert few.languages == ("en", "fr", "si")
    assert {item(r) for r in few.train()} < {item(r) for r in task().train()}
    assert {r.id for r in few.test("si")} < {r.id for r in task().test("si")}
    assert Counter(r.target for r in few.test("si")) == dict.fromkeys(KINDS, 10)
    assert {item(r) for r in task(seed=1).train()} != {item(r) for r in task().train()}


_DIGEST = (
    "import hashlib; from layerbridge import tasks; names = tasks.get('names'); "
    "rows = [*names.train(), *names.validation(), "
    "*(r for c in names.languages for r in names.test(c))]; "
    "print(hashlib.sha256(repr([(r.id, r.text, r.target) for r in rows]).encode()).hexdigest())"
)


def test_every_process_makes_the_same_rows():
    here = [(row.id, row.text, row.target) for row in everything(task())]
    digest = hashlib.sha256(repr(here).encode()).hexdigest()
    # This process has a hash seed of its own.
    there = subprocess.run(
        [sys.executable, "-c", _DIGEST],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == digest


def test_a_caller_cannot_change_the_rows():
    task().test("si").clear()
    assert len(task().test("si")) == 180


def test_version_names_the_data():
    assert task().version().startswith("Babel 2.")


def test_other_languages():
    rows = task(languages=("zh_Hant", "zu", "pt-BR")).test("zu")
    assert len(rows) > 150
    assert {row.language for row in rows} == {"zu"}


@pytest.mark.parametrize("language", ["xx", "", "klingon", "en_"])
def test_language_that_babel_does_not_have(language):
    with pytest.raises(DataError) as error:
        tasks.get("names", languages=[language])
    assert str(error.value) == (
        f"the task names has no names in {language!r}; allowed: {', '.join(LANGUAGES)}, "
        "and any other locale of Babel"
    )


def test_numbers_out_of_range():
    with pytest.raises(DataError) as error:
        tasks.get("names", test_per_kind=31)
    assert str(error.value) == "test_per_kind is 31; allowed: 1 to 30"
    with pytest.raises(DataError) as error:
        tasks.get("names", train_per_kind=0)
    assert str(error.value) == "train_per_kind is 0; allowed: 1 or more, or None"
