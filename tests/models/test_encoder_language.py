import pytest

import tiny
import tiny_translators
from layerbridge.errors import ConfigError
from layerbridge.models.encoder_language import speaking


@pytest.fixture
def nllb():
    return tiny_translators._tokenizer("nllb")


def test_a_copy_marks_texts_with_the_code(nllb):
    before = nllb("ama").input_ids
    sinhala = speaking(nllb, "sin_Sinh")
    code = nllb.convert_tokens_to_ids("sin_Sinh")
    assert code != nllb.unk_token_id
    assert sinhala("ama").input_ids == [code, *before[1:]]
    assert nllb("ama").input_ids == before
    assert speaking(sinhala, nllb.src_lang)("ama").input_ids == before
    assert speaking(nllb, nllb.src_lang)("ama").input_ids == before


@pytest.mark.parametrize("language", ["Sinhala", "xx_Xxxx"])
def test_a_language_that_is_not_known(nllb, language):
    with pytest.raises(ConfigError) as caught:
        speaking(nllb, language)
    assert str(caught.value) == (
        f"the encoder's tokenizer knows no language {language!r}; allowed: its codes, such as "
        "eng_Latn for NLLB and en_XX for mBART"
    )


def test_a_tokenizer_without_languages():
    with pytest.raises(ConfigError) as caught:
        speaking(tiny.unigram(tiny.T5_SPECIALS, "$A </s>"), "eng_Latn")
    assert str(caught.value).endswith("adds no language code; next: leave encoder_language out")
