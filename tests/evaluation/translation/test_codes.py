import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from babel.core import get_global
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

from layerbridge.errors import DataError
from layerbridge.evaluation.translation.codes import M2M100, NLLB, code_in

# The CLDR expects another script there than FLORES has: it follows the country, or the tradition.
OTHER_SCRIPT = {"crh", "sat", "tzm-Tfng"}


def test_nllb_has_every_language_of_the_tokenizer_but_english():
    assert set(NLLB.values()) == set(FAIRSEQ_LANGUAGE_CODES) - {"eng_Latn"}


def test_m2m100_has_every_language_of_the_tokenizer_but_english():
    # Read and not imported: the module wants sentencepiece.
    package = find_spec("transformers.models.m2m_100").submodule_search_locations[0]
    source = (Path(package) / "tokenization_m2m_100.py").read_text(encoding="utf-8")
    listed = re.search(r'"m2m100": \[(.*?)\]', source, re.DOTALL).group(1)
    assert set(M2M100.values()) == set(re.findall(r'"(\w+)"', listed)) - {"en"}


def test_a_language_is_in_the_script_that_the_cldr_says():
    likely = get_global("likely_subtags")
    checked = 0
    for ours, theirs in NLLB.items():
        parts = ours.split("-")
        script = next((part for part in parts[1:] if len(part) == 4), None)
        if script is None:
            full = likely.get("_".join(parts)) or likely.get(parts[0])
            script = full.split("_")[1] if full else None
        if ours in OTHER_SCRIPT or script is None:
            continue
        # Han, Simplified or Traditional is what the CLDR calls Japanese's and Korean's otherwise.
        assert theirs.split("_")[1] == script.replace("Kore", "Hang"), ours
        checked += 1
    assert checked > 150


@pytest.mark.parametrize(
    ("table", "language", "code"),
    [
        (NLLB, "si", "sin_Sinh"),
        (NLLB, "as", "asm_Beng"),
        (NLLB, "sw", "swh_Latn"),
        (NLLB, "ar", "arb_Arab"),
        (NLLB, "pt-BR", "por_Latn"),
        (NLLB, "es_419", "spa_Latn"),
        (NLLB, "zh-TW", "zho_Hant"),
        (NLLB, "fa-AF", "prs_Arab"),
        (NLLB, "tam_Taml", "tam_Taml"),
        (NLLB, "swa", "swh_Latn"),
        (NLLB, "ekk", "est_Latn"),
        (M2M100, "swh_Latn", "sw"),
        (M2M100, "swa", "sw"),
        (M2M100, "si", "si"),
        (M2M100, "fil", "tl"),
        (M2M100, "nb", "no"),
        (M2M100, "zh-Hant", "zh"),
        (M2M100, "tam_Taml", "ta"),
        (M2M100, "zho_Hans", "zh"),
    ],
)
def test_codes(table, language, code):
    assert code_in(table, language, "some/model") == code


@pytest.mark.parametrize(
    ("table", "language"),
    [
        (M2M100, "as"),
        (M2M100, "asm_Beng"),
        (NLLB, "gsw"),
        (NLLB, "de-ba"),
        (NLLB, "sr-Latn"),
        (NLLB, "en"),
    ],
)
def test_a_language_that_a_model_lacks(table, language):
    with pytest.raises(DataError) as caught:
        code_in(table, language, "some/model")
    assert str(caught.value) == (
        f"the translator some/model does not support {language!r}; "
        "next: leave the language out, or choose another translator"
    )
