import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerbridge.errors import DataError
from layerbridge.tasks.text import (
    check_unicode,
    check_unicode_in,
    comparison_key,
    has_surrogate,
    same_spelling,
)

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
# Composed and decomposed letters, compatibility forms, letters whose case folds to others.
LETTERS = "aéêệ\u0301\u0323ÅåßẞİıſΣςǆﬁＡ①½あが가क़ශ්රී猫🙂 \u00a0\n"


@given(st.text(LETTERS, max_size=9))
def test_the_form_of_a_text_does_not_matter(text):
    keys = {comparison_key(unicodedata.normalize(form, text)) for form in FORMS}
    assert keys == {comparison_key(text)}
    assert comparison_key(comparison_key(text)) == comparison_key(text)


@given(st.text("aéßあ猫 \n", max_size=9), st.text("aéßあ猫 \n", max_size=9))
def test_texts_that_read_differently_stay_apart(one, other):
    def read(text):
        return " ".join(text.replace("ß", "ss").split())

    assert (comparison_key(one) == comparison_key(other)) == (read(one) == read(other))


@pytest.mark.parametrize(
    "texts",
    [
        ("café au lait", "cafe\u0301 au lait", "CAFÉ  au\tlait\n", "café\u00a0au lait"),
        ("ＡＢＣ １", "abc 1"),
        ("ﬁnd", "find"),
        ("co\u00adop", "\ufeffcoop", "co\u200bop", "co\u2060op"),
        ("ශ්\u200dරී", "ශ්රී"),
    ],
)
def test_texts_that_look_the_same(texts):
    for one, other in itertools.combinations(texts, 2):
        assert comparison_key(one) == comparison_key(other)


def test_spelling():
    assert same_spelling("e\u0301") == same_spelling("é") != same_spelling("É")


@pytest.mark.parametrize(("text", "half"), [("a\ud83d", "d83d"), ("\udce9", "dce9")])
def test_half_a_character(text, half):
    message = (
        f"x has an unpaired surrogate (\\u{half}), which is half a character; next: write it "
        "again as UTF-8"
    )
    with pytest.raises(DataError) as caught:
        check_unicode(text, "x")
    assert str(caught.value) == message
    for content in ({"a": ["b", {"c": text}]}, {text: 1}, [[text]], text):
        with pytest.raises(DataError) as caught:
            check_unicode_in(content, "x")
        assert str(caught.value) == message


def test_whole_characters():
    check_unicode("ශ්‍රී 🙂 \ufeff", "x")
    check_unicode_in({"a": ["🙂", 1, None, {"b": True}]}, "x")


def test_half_of_a_surrogate_pair_is_no_text():
    assert [has_surrogate(text) for text in ("a", "ශ්‍රී 🙂", "a\ud83d", "\udce9")] == [
        False,
        False,
        True,
        True,
    ]
