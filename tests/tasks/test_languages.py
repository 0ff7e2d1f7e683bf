import pytest

from layerbridge.tasks.languages import corpora, corpus_of, names, script


def test_names_are_english_and_unknown_codes_name_themselves():
    assert names(["si", "zh-Hant", "xx", ""]) == {
        "si": "Sinhala",
        "zh-Hant": "Traditional Chinese",
        "xx": "xx",
        "": "",
    }


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("si", "Sinhala"),
        ("de", "Latin"),
        ("sr", "Cyrillic"),
        ("sr-Latn", "Latin"),
        ("zh", "Simplified Han"),
        ("yue", "Traditional Han"),
        ("sin_Sinh", "Sinhala"),  # as FLORES writes it
        ("xx", None),
        ("", None),
        ("<b>", None),
    ],
)
def test_script(code, name):
    assert script(code) == name


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        ("zoo:multilingual-e5-small", "CC-100"),
        ("FacebookAI/xlm-roberta-large", "CC-100"),
        ("google/mt5-xl", "mC4"),
        ("/models/mt5-large/", "mC4"),
        ("google/umt5-base", None),  # another corpus
        ("mt5-runs/gemma-2b", None),  # a folder's name says nothing
        ("bert-base-multilingual-cased", None),
        (None, None),
    ],
)
def test_corpus_of_an_encoder(encoder, name):
    found = corpus_of(encoder)
    assert (found and found.name) == name


def test_shares_are_of_the_whole_corpus():
    for corpus in corpora():
        shares = [corpus.share(code) for code in corpus.sizes]
        assert sum(shares) == pytest.approx(1)
        assert max(shares) == corpus.share("en")
        assert "arXiv" in corpus.source
    cc100, mc4 = corpora()
    # The papers' own totals: 2.5 TB, and 6.3 trillion tokens.
    assert sum(cc100.sizes.values()) == pytest.approx(2500, rel=0.02)
    assert sum(mc4.sizes.values()) == pytest.approx(6300, rel=0.01)
    assert cc100.share("si") == pytest.approx(3.6 / 2467.2)


def test_old_codes_and_other_scripts():
    cc100, mc4 = corpora()
    assert mc4.share("iw") == mc4.share("he")
    assert cc100.share("tl") == cc100.share("fil")
    assert cc100.share("zh-Hant") == cc100.share("zh")
    assert cc100.share("hi-Latn") < cc100.share("hi")
    # Serbian in Latin letters is not what was counted as Serbian.
    assert (cc100.share("sr-Latn"), mc4.share("as"), mc4.share("xx")) == (None, None, None)
