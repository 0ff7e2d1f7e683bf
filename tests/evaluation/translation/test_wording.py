import pytest
from transformers import AutoConfig, AutoTokenizer, LlamaConfig

from layerbridge.errors import BackboneError, DataError
from layerbridge.evaluation.translation.wording import Wording
from tiny_translators import MARKS

TEXTS = ["ම ශ්‍රී ලංකා", "the market", ""]


@pytest.fixture
def make(translator_folder):
    def build(family, **settings):
        """Family and what to change in its config, or in its tokenizer's own settings."""
        folder = translator_folder(family)
        config, tokenizer = (
            AutoConfig.from_pretrained(folder),
            AutoTokenizer.from_pretrained(folder),
        )
        for name in ("source_lang", "target_lang"):
            if name in settings:
                tokenizer.init_kwargs[name] = settings.pop(name)
        if settings.pop("legacy_behaviour", False):
            tokenizer.legacy_behaviour = True
            tokenizer.src_lang = "eng_Latn"
        for name, value in settings.items():
            setattr(config, name, value)
        return Wording(config, tokenizer, "some/model")

    return build


@pytest.mark.parametrize("language", ["si", "ta"])
@pytest.mark.parametrize("legacy", [False, True])
def test_nllb_reads_what_its_own_tokenizer_gives(make, language, legacy):
    wording = make("nllb", legacy_behaviour=legacy)
    found = wording.ids(TEXTS, language)
    # Asking must not have left anything behind in the tokenizer.
    assert wording.tokenizer.src_lang == "eng_Latn"
    wording.tokenizer.src_lang = MARKS["nllb"][language]
    assert found == wording.tokenizer(TEXTS).input_ids
    assert wording.english_id == wording.tokenizer.convert_tokens_to_ids("eng_Latn")


def test_m2m100_reads_the_language_first(make):
    wording = make("m2m100")
    tokens = [wording.tokenizer.convert_ids_to_tokens(ids) for ids in wording.ids(TEXTS, "ta")]
    assert [row[0] for row in tokens] == ["__ta__"] * 3
    assert [row[-1] for row in tokens] == ["</s>"] * 3
    assert tokens[1][1:-1] == wording.tokenizer.tokenize("the market")
    assert tokens[2] == ["__ta__", "</s>"]
    assert wording.english_id == wording.tokenizer.convert_tokens_to_ids("__en__")


def test_marian_reads_the_text_alone(make):
    wording = make("marian")
    assert (
        wording.ids(TEXTS, "si") == wording.ids(TEXTS, "ta") == wording.tokenizer(TEXTS).input_ids
    )
    assert wording.english_id is None


@pytest.mark.parametrize("family", ["nllb", "m2m100", "marian"])
def test_a_long_text_loses_its_end_and_no_mark(make, family):
    wording = make(family, max_position_embeddings=9)
    (short,), (long,) = wording.ids(["abc"], "si"), wording.ids(["abc" * 20], "si")
    marks = 0 if family == "marian" else 1
    assert len(long) == 9
    assert long[:marks] == short[:marks]
    assert long[-1] == short[-1] == wording.tokenizer.eos_token_id
    bare = wording.tokenizer("abc" * 20, add_special_tokens=False).input_ids
    assert long[marks:-1] == bare[: 8 - marks]
    texts = ["ab" * times for times in range(12)]
    lengths = [len(wording.ids([text], "si")[0]) for text in texts]
    whole = [len(make(family).ids([text], "si")[0]) for text in texts]
    assert wording.count_cut(texts) == sum(a < b for a, b in zip(lengths, whole, strict=True)) > 0


def test_the_families_are_distinguished_by_their_tokenizers(make):
    assert make("nllb").source("si") == "sin_Sinh"
    assert make("m2m100").source("si") == "si"
    assert make("marian").source("si") == "si"


def test_a_model_of_another_kind(translator_folder):
    tokenizer = AutoTokenizer.from_pretrained(translator_folder("marian"))
    with pytest.raises(BackboneError) as caught:
        Wording(LlamaConfig(), tokenizer, "some/llama")
    assert str(caught.value) == (
        "'some/llama' is a 'llama' model, whose language tokens are unknown; "
        "allowed: NLLB, M2M100 or Marian"
    )


def test_a_tokenizer_without_english(translator_folder):
    config = AutoConfig.from_pretrained(translator_folder("nllb"))
    tokenizer = AutoTokenizer.from_pretrained(translator_folder("marian"))
    with pytest.raises(BackboneError) as caught:
        Wording(config, tokenizer, "some/model")
    assert str(caught.value) == (
        "the tokenizer of 'some/model' has no token for English; allowed: eng_Latn or __en__; "
        "next: use the tokenizer that the model was trained with"
    )


def test_a_language_that_the_family_has_and_this_model_lacks(make):
    with pytest.raises(DataError) as caught:
        make("m2m100").ids(["a"], "sw")
    assert str(caught.value) == (
        "the translator some/model does not support 'sw': '__sw__' is not in its vocabulary"
    )


def test_a_pair_into_another_language(make):
    with pytest.raises(BackboneError) as caught:
        make("marian", source_lang="en", target_lang="de")
    assert str(caught.value) == (
        "the translator 'some/model' translates into 'de'; "
        "allowed: a model that translates into English"
    )


def test_a_pair_of_another_language(make):
    wording = make("marian", source_lang="si", target_lang="en")
    assert wording.source("si") == "si"
    with pytest.raises(DataError) as caught:
        wording.source("ta")
    assert str(caught.value) == (
        "the translator some/model reads 'si', not 'ta'; next: an id with {language} in it, "
        "such as Helsinki-NLP/opus-mt-{language}-en"
    )


@pytest.mark.parametrize(
    ("reads", "language"), [("mul", "ta"), ("", "ta"), ("tl", "fil"), ("no", "nb"), ("pt", "pt-BR")]
)
def test_a_pair_of_a_group_or_of_the_same_language(make, reads, language):
    assert make("marian", source_lang=reads, target_lang="eng").source(language) == language
