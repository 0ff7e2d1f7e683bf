import json
import shutil

import pytest
import torch
import transformers

import tiny_translators
from layerbridge.errors import BackboneError, ConfigError, DataError, NotFiniteError
from layerbridge.evaluation.translation import Translator, translator
from layerbridge.models.backbone import LoadOptions
from tiny_translators import FAMILIES

FLOAT32 = LoadOptions(dtype="float32")
TEXTS = [
    "ම ශ්‍රී ලංකා",
    "the market",
    "a",
    "  ",
    "cat sat on the mat and that",
    "தமிழ்",
    "rose while",
    "the market",
    "",
    "teams, in the ලක",
]


@pytest.fixture
def make(translator_folder):
    def build(family="nllb", **settings):
        settings = {"options": FLOAT32, "max_new_tokens": 12, **settings}
        return Translator(str(translator_folder(family)), **settings)

    return build


@pytest.fixture
def generated(monkeypatch):
    """What each call of transformers' generate was given."""
    calls = []
    generate = transformers.GenerationMixin.generate

    def spy(self, *arguments, **settings):
        calls.append({**settings, "model": self})
        return generate(self, *arguments, **settings)

    for name in ("M2M100ForConditionalGeneration", "MarianMTModel"):
        monkeypatch.setattr(getattr(transformers, name), "generate", spy)
    return calls


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_naive_translation(make, translator_folder, family):
    folder = translator_folder(family)
    naive = [
        tiny_translators.naive(family, folder, text, "si") if text.strip() else text
        for text in TEXTS
    ]
    assert make(family).into_english(TEXTS, "si") == naive
    # A model that says one thing only would hide every mistake.
    assert len(set(naive)) > 4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_order_of_texts_and_the_batch_size_change_nothing(make, family):
    whole = dict(zip(TEXTS, make(family).into_english(TEXTS, "si"), strict=True))
    for size in (1, 3):
        texts = TEXTS[::-1]
        found = make(family, batch_size=size).into_english(texts, "si")
        assert found == [whole[text] for text in texts]


@pytest.mark.parametrize("family", ["nllb", "m2m100"])
def test_the_source_language_is_read(make, family):
    one = make(family)
    assert one.into_english(TEXTS, "si") != one.into_english(TEXTS, "ta")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_generate_is_asked(make, generated, family):
    one = make(family)
    one.into_english(TEXTS, "si")
    (call,) = generated
    english = {"nllb": "eng_Latn", "m2m100": "__en__", "marian": None}[family]
    tokenizer = transformers.AutoTokenizer.from_pretrained(one.model_id)
    assert call["forced_bos_token_id"] == (english and tokenizer.convert_tokens_to_ids(english))
    assert (call["num_beams"], call["do_sample"], call["max_new_tokens"]) == (1, False, 12)
    assert call["model"].training is False
    assert not any(p.requires_grad for p in call["model"].parameters())
    # Different texts alone, none of them blank, and pads on the right.
    ids, mask = call["input_ids"], call["attention_mask"]
    assert len(ids) == len({text for text in TEXTS if text.strip()})
    assert bool((mask.diff(dim=1) <= 0).all())
    assert bool((ids[mask == 0] == tokenizer.pad_token_id).all())


def test_beams_are_those_of_generate(make, generated, translator_folder):
    found = make("marian", num_beams=3, batch_size=2).into_english(TEXTS, "si")
    assert {call["num_beams"] for call in generated} == {3}
    folder = translator_folder("marian")
    model = transformers.MarianMTModel.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text, english in zip(TEXTS, found, strict=True):
        if text.strip():
            ids = tokenizer(text, return_tensors="pt").input_ids
            alone = model.generate(ids, num_beams=3, do_sample=False, max_new_tokens=12)
            assert english == tokenizer.decode(alone[0], skip_special_tokens=True).strip()
    assert found != make("marian").into_english(TEXTS, "si")


def test_the_models_positions_bound_what_is_read_and_written(generated, tmp_path, capsys):
    folder = tiny_translators.write("marian", tmp_path / "short", positions=16)
    Translator(str(folder), options=FLOAT32).into_english(["abc " * 40, "a"], "si")
    (call,) = generated
    assert call["input_ids"].shape[1] == 16
    assert call["max_new_tokens"] == 16
    assert "texts cut by the translator: 1 of 2 in si" in capsys.readouterr().err.splitlines()


def test_progress(make):
    message = []
    one = make(batch_size=4)
    one.into_english(TEXTS[:2], "si")
    one.into_english(TEXTS, "si", lambda *facts: message.append(facts))
    assert message == [(6, 7), (7, 7)]


# --- one model a language -----------------------------------------------------------------------


def test_every_language_has_its_own_model(tmp_path, generated):
    for seed, code in enumerate(("si", "ta")):
        tiny_translators.write("marian", tmp_path / f"opus-{code}-en", seed=seed)
    one = Translator(str(tmp_path / "opus-{language}-en"), options=FLOAT32, max_new_tokens=12)
    one.check(["si", "ta"])
    assert generated == []
    for code in ("si", "ta"):
        alone = Translator(str(tmp_path / f"opus-{code}-en"), options=FLOAT32, max_new_tokens=12)
        assert one.into_english(TEXTS, code) == alone.into_english(TEXTS, code)
    assert one.into_english(TEXTS, "si") != one.into_english(TEXTS, "ta")
    with pytest.raises(BackboneError, match="opus-sw-en"):
        one.check(["si", "sw"])


# --- what is remembered --------------------------------------------------------------------------


def test_nothing_is_translated_twice(make, generated):
    one = make()
    first = one.into_english(TEXTS, "si")
    assert one.into_english(TEXTS[::-1], "si") == first[::-1]
    assert len(generated) == 1


def test_an_interrupted_run_goes_on(make, monkeypatch, generated, tmp_path):
    whole = make().into_english(TEXTS, "si")
    translate = Translator._translate
    calls = []

    def interrupted(self, texts, language):
        calls.append(texts)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return translate(self, texts, language)

    monkeypatch.setattr(Translator, "_translate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(batch_size=2, folder=tmp_path).into_english(TEXTS, "si")
    (file,) = tmp_path.iterdir()
    assert len(file.read_text(encoding="utf-8").splitlines()) == 4
    monkeypatch.setattr(Translator, "_translate", translate)
    generated.clear()
    assert make(folder=tmp_path).into_english(TEXTS, "si") == whole
    (call,) = generated
    assert len(call["input_ids"]) == 3


def test_who_finds_all_translations_reads_no_weights(make, monkeypatch, tmp_path):
    whole = make(folder=tmp_path).into_english(TEXTS, "si")
    monkeypatch.setattr(translator, "load_weights", lambda *_: pytest.fail("read"))
    assert make(folder=tmp_path, batch_size=3).into_english(TEXTS, "si") == whole


def test_the_file_can_be_read(make, translator_folder, tmp_path):
    english = make(folder=tmp_path).into_english(TEXTS, "si")
    (file,) = tmp_path.iterdir()
    name = translator_folder("nllb").name
    assert file.name.startswith(f"{name}.si.")
    assert file.suffix == ".jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert {line["text"]: line["english"] for line in lines} == {
        text: given for text, given in zip(TEXTS, english, strict=True) if text.strip()
    }


def test_other_settings_languages_or_weights_are_not_mixed_up(make, translator_folder, tmp_path):
    copy = shutil.copytree(translator_folder("nllb"), tmp_path / "copy")
    memories = tmp_path / "memories"

    def files(language="si", model_id=None, **settings):
        one = make(folder=memories, **settings)
        one.model_id = model_id or one.model_id
        one.into_english(["a"], language)
        return len(list(memories.iterdir()))

    assert files() == files() == files(batch_size=1) == 1
    assert files("ta") == 2
    assert files(num_beams=2) == 3
    assert files(max_new_tokens=5) == 4
    assert files(options=LoadOptions(dtype="bfloat16")) == 5
    weights = copy / "model.safetensors"
    model = transformers.M2M100ForConditionalGeneration.from_pretrained(copy)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    model.save_pretrained(copy)
    assert weights.is_file()
    assert files(model_id=str(copy)) == 6


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["num_beams", "max_new_tokens", "batch_size"])
def test_a_number_out_of_range(name):
    with pytest.raises(ConfigError) as caught:
        Translator("some/model", **{name: 0})
    assert str(caught.value) == f"{name} is 0; allowed: 1 or more"


def test_an_unsupported_language_is_reported_before_any_weights_are_read(make, monkeypatch):
    monkeypatch.setattr(translator, "load_weights", lambda *_: pytest.fail("read"))
    with pytest.raises(DataError, match="does not support 'gsw'"):
        make().check(["si", "gsw"])


def test_a_model_that_does_not_translate(folder):
    with pytest.raises(BackboneError) as caught:
        Translator(str(folder("llama"))).check(["si"])
    assert str(caught.value) == (
        f"'{folder('llama')}' is a 'llama' model, not a translation model; "
        "allowed: NLLB, M2M100 or Marian"
    )
    with pytest.raises(BackboneError, match="'mt5' model, whose language tokens"):
        Translator(str(folder("mt5"))).check(["si"])


def test_a_tokenizer_that_wants_sentencepiece(translator_folder, monkeypatch):
    def vague(*_):
        raise BackboneError("cannot load the tokenizer: unrecognized configuration class")

    monkeypatch.setattr(translator, "load_tokenizer", vague)
    monkeypatch.setattr(translator, "find_spec", lambda name: None)
    folder = translator_folder("marian")
    with pytest.raises(BackboneError) as caught:
        Translator(str(folder)).check(["si"])
    assert str(caught.value) == (
        f"the tokenizer of the translator '{folder}' needs sentencepiece; "
        "next: pip install sentencepiece"
    )
    monkeypatch.setattr(translator, "find_spec", lambda name: name)
    with pytest.raises(BackboneError, match="unrecognized configuration"):
        Translator(str(folder)).check(["si"])


# --- the tokenizers as they are published ---------------------------------------------------------


@pytest.mark.parametrize("family", ["m2m100", "marian"])
def test_a_sentencepiece_tokenizer(family, tmp_path):
    pytest.importorskip("sentencepiece")
    folder = tiny_translators.write_published(family, tmp_path / family)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert (
        type(tokenizer).__name__
        == {"m2m100": "M2M100Tokenizer", "marian": "MarianTokenizer"}[family]
    )
    one = Translator(str(folder), options=FLOAT32, max_new_tokens=12)
    found = one.into_english(TEXTS, "si")
    assert found == [
        tiny_translators.naive(family, folder, text, "si") if text.strip() else text
        for text in TEXTS
    ]
    if family == "m2m100":
        tokenizer.src_lang = "si"
        assert (
            one._checkpoint("si").wording.ids(["the market"], "si")
            == tokenizer(["the market"]).input_ids
        )


@pytest.mark.parametrize("num_beams", [1, 2])
def test_translations_of_nan_are_refused_and_not_kept(make, tmp_path, num_beams):
    one = make(num_beams=num_beams, folder=tmp_path)
    model = one._model("si")
    tokenizer = one._checkpoint("si").wording.tokenizer
    token = tokenizer("猫", add_special_tokens=False)["input_ids"][-1]
    embeddings = model.get_encoder().embed_tokens
    # The encoder's alone: its table may be that of the head.
    embeddings.weight = torch.nn.Parameter(embeddings.weight.detach().clone())
    embeddings.weight.data[token] = torch.nan
    with pytest.raises(NotFiniteError, match="in the translator's logits, for the text '猫'"):
        one.into_english(["a", "猫", "the market"], "si")
    assert not list(tmp_path.iterdir())


def test_float16_that_overflows_is_said_at_load(translator_folder, tmp_path, capfd):
    source = translator_folder("nllb")
    folder = shutil.copytree(source, tmp_path / "loud")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(source)
    for parameter in model.parameters():
        parameter.data.mul_(300)
    model.save_pretrained(folder)
    capfd.readouterr()
    for path, overflows in ((source, False), (folder, True)):
        Translator(str(path), options=LoadOptions(dtype="float16"))._model("si")
        warning = f"warning: the translator {str(path)!r} overflows float16: load the models with "
        assert (warning in capfd.readouterr().err) == overflows
