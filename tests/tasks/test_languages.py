import sys

import pytest

from layerbridge.tasks.languages import canonical, corpora, corpus_of, names, own_code, script


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


# ISO 639-1, ISO 639-3 (the macrolanguage and its main member) and FLORES codes.
SAME = [
    "sw swa swh swh_Latn SW",
    "et est ekk est_Latn",
    "lv lav lvs lvs_Latn",
    "ms msa zsm zsm_Latn",
    "fa fas pes pes_Arab",
    "az aze azj azj_Latn",
    "uz uzb uzn uzn_Latn",
    "mn mon khk khk_Cyrl",
    "or ori ory ory_Orya",
    "no nor nob nb nob_Latn",
    "zh zho cmn zho_Hans zh-CN zh_Hans",
    "zh-Hant zho_Hant zh-TW zh_Hant_TW",
    "en eng eng_Latn en-US",
    "ar ara arb arb_Arab",
    "ps pus pbt pbt_Arab",
    "qu que quy_Latn",
    "sq sqi als als_Latn",
    "fil tl tgl_Latn",
    "ko kor kor_Hang",
    "fa-AF prs_Arab",
    "he iw heb",
]


@pytest.mark.parametrize("codes", SAME)
def test_all_codes_of_a_language_are_one(codes):
    first, *others = codes.split()
    assert {canonical(code) for code in others} == {first} == {canonical(first)}
    assert {script(code) for code in others} == {script(first)} != {None}
    for corpus in corpora():
        assert len({corpus.share(code) for code in codes.split()}) == 1
    for code in others:
        assert own_code(code, ["xx", first]) == own_code(first, [code]).replace(code, first)
        assert code not in names([code])[code]


def test_what_is_not_the_same():
    different = "sw en en-GB fa fa-AF zh zh-Hant no nn sr sr-Latn pt pt-PT ace ace-Arab hi hi-Latn"
    assert len({canonical(code) for code in different.split()}) == len(different.split())
    # Two test sets of one language, and what is no code.
    for code in ("en_noisy", "noisy", "xx", "", "-", "a_b", "zh_foo"):
        assert canonical(code) == code
    # An exact code goes first.
    assert own_code("pt-BR", ["pt", "pt-BR"]) == "pt-BR"
    assert own_code("de", ["pt", "pt-BR"]) == "de"


def test_names_of_long_codes():
    assert names(["ace_Arab", "swh_Latn", "est_Latn", "sr_Latn", "en-GB"]) == {
        "ace_Arab": "Acehnese (Arabic)",
        "swh_Latn": "Swahili",
        "est_Latn": "Estonian",
        "sr_Latn": "Serbian (Latin)",
        "en-GB": "British English",
    }


def test_without_babel_a_code_is_only_itself(monkeypatch):
    monkeypatch.setitem(sys.modules, "babel.core", None)
    canonical.cache_clear()
    assert own_code("swa", ["sw"]) == "swa"
    assert own_code("sw", ["sw"]) == "sw"
