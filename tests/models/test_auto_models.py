import pytest
import torch
from transformers import pipeline

from layerbridge.errors import ConfigError
from layerbridge.models import auto_models
from layerbridge.models.bridge import LayerBridge

LABELS = ["country", "time zone", "unit"]
TEXTS = ["the market rose while", "ම ශ්", "猫 a", ""]


@pytest.fixture(params=["mt5", "bert"])
def saved(request, make_bridge, tmp_path):
    """One encoder reads positions from the mask, the other counts them: padding would show."""
    bridge = make_bridge(
        request.param, "gpt2", options=LABELS, text_prefix="the ", max_text_tokens=12
    )
    bridge.save_pretrained(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def load(saved):
    return lambda task: pipeline(task, model=str(saved), dtype=torch.float32, device="cpu")


def test_text_classification_is_classify(load):
    pipe = load("text-classification")
    answers = pipe.model.classify(TEXTS)
    for batch_size in (1, 4):
        found = pipe(TEXTS, top_k=None, batch_size=batch_size)
        for mine, theirs in zip(answers, found, strict=True):
            assert mine.choice == theirs[0]["label"]
            assert {each["label"]: each["score"] for each in theirs} == pytest.approx(
                mine.probabilities, abs=1e-5
            )


def test_text_generation_is_generate_text(saved, load):
    pipe = load("text-generation")
    bridge = LayerBridge.from_pretrained(
        saved,
        dtype="float32",
        encoder=pipe.model.encoder,
        language_model=pipe.model.language_model,
    )
    answers = bridge.generate_text(TEXTS, max_new_tokens=6)
    for full, batch_size in ((True, 1), (False, 4)):
        found = pipe(TEXTS, max_new_tokens=6, batch_size=batch_size, return_full_text=full)
        texts = [each["generated_text"] for (each,) in found]
        expected = [
            (text if full else "") + answer for text, answer in zip(TEXTS, answers, strict=True)
        ]
        assert [text.strip() for text in texts] == [text.strip() for text in expected]


def test_what_generate_returns_decodes_to_the_answer(saved):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(saved)
    bridge = AutoModelForCausalLM.from_pretrained(saved, dtype="float32")
    inputs = tokenizer(TEXTS[:2], return_tensors="pt", padding=True)
    for settings in ({}, {"num_return_sequences": 2, "num_beams": 2}):
        ids = bridge.generate(**inputs, max_new_tokens=5, pad_token_id=3, **settings)
        expected = bridge.generate_text(TEXTS[:2], max_new_tokens=5, **settings)
        found = tokenizer.batch_decode(ids, skip_special_tokens=True)
        assert [text.strip() for text in found] == expected
    whole = bridge.generate(**inputs, max_new_tokens=5, return_dict_in_generate=True)
    assert torch.equal(whole.sequences, bridge.generate(**inputs, max_new_tokens=5))


def test_what_a_pipeline_refuses(make_bridge, load, tmp_path):
    pipe = load("text-generation")
    with pytest.raises(ConfigError, match="reads one text, not a conversation; allowed: a text"):
        pipe([{"role": "user", "content": "the market"}])
    with pytest.raises(ConfigError, match="not tokenized with 'max_length'; allowed: one"):
        pipe("the market", max_length=20)
    with pytest.raises(ConfigError, match="not tokenized with 'text_pair'; allowed: one text"):
        load("text-classification")({"text": "a", "text_pair": "b"})
    make_bridge().save_pretrained(tmp_path / "free")
    with pytest.raises(ConfigError, match=r"was not trained on labels.*pipeline\('text-gen"):
        auto_models.LayerBridgeForSequenceClassification.from_pretrained(
            tmp_path / "free", dtype="float32"
        )
