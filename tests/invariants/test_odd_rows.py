"""No text is too odd: empty, endless, all emoji, right to left, of many scripts, all at once."""

import pytest
import torch

from layerbridge.models.language_model import IGNORED

ODD = {
    "empty": "",
    "spaces": "  \n\t ",
    "endless": "the market rose " * 625,
    "emoji": "😀👩‍👩‍👧‍👦🏳️‍🌈🇱🇰" * 5,
    "right-to-left": "مرحبا بالعالم שלום עולם",
    "mixed": "Hello ශ්‍රී 猫 হ্যালো नमस्ते Привет 안녕 ሰላም",
    "control": "a\x00b\u200b\u202ec\ufeff",
    "one": "a",
}
TEXTS = list(ODD.values())
PAIRS = [
    ("mt5", "llama"), ("umt5", "gpt2"), ("xlm-r", "gemma2"),
    ("bert", "gpt2"), ("m2m100", "llama"), ("gemma2-encoder", "gemma2"),
]  # fmt: skip


@pytest.mark.parametrize(("encoder", "lm"), PAIRS)
def test_all_in_one_batch(make_bridge, monkeypatch, encoder, lm):
    assert len(ODD["endless"]) == 10_000
    bridge = make_bridge(encoder, lm)
    monkeypatch.setattr(bridge.encoder, "max_text_tokens", 256)
    batch = bridge.encoder.tokenize(TEXTS)
    assert batch["input_ids"].shape[1] == 256
    assert batch["attention_mask"].sum(1).min() >= 1
    labels = torch.tensor([[5, 6], [7, IGNORED]] * 4)
    output = bridge(**batch, labels=labels)
    assert output.logits.isfinite().all()
    output.loss.backward()
    for name, parameter in bridge.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), name
    with torch.no_grad():
        rows = output.logits.split([2, 1] * 4)
        for name, text, row, label in zip(ODD, TEXTS, rows, labels, strict=True):
            alone = bridge(**bridge.encoder.tokenize([text]), labels=label[None]).logits
            torch.testing.assert_close(
                alone, row, atol=3e-5, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
            )
    assert all(isinstance(text, str) for text in bridge.generate_text(TEXTS, max_new_tokens=3))
    choices = bridge.classify(TEXTS, ["Business", "Sports"])
    assert all(sum(c.probabilities.values()) == pytest.approx(1) for c in choices)
    weights = bridge.layer_weights(TEXTS)
    for found, mask in zip(weights, batch["attention_mask"], strict=True):
        assert len(found.tokens) == len(found.weights) == mask.sum()


def test_lists_that_are_empty(make_bridge):
    bridge = make_bridge()
    assert bridge.classify([], ["a", "b"]) == []
    assert bridge.generate_text([]) == []
    assert bridge.layer_weights([]) == []
