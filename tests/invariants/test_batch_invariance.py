"""The same numbers whatever else is in the batch, however it is padded, cached or accumulated."""

import pytest
import torch

from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.language_model import IGNORED

PAIRS = [("mt5", "llama"), ("xlm-r", "gpt2"), ("gemma2-encoder", "gemma2")]
TEXTS = [
    "The market rose.",
    "ශ්‍රී ලංකාව " * 3,
    "",
    "مرحبا",
    "😀",
    "the teams of the market entertained the crowd",
    "a",
    "猫",
]
TARGETS = [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14], [15, 16], [17], [18, 19, 20], [21]]
OPTIONS = ["Business", "Sports", "Very Negative", "a"]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def padded(targets):
    width = max(map(len, targets))
    return torch.tensor([t + [IGNORED] * (width - len(t)) for t in targets])


def wider(states, pads):
    """The same states with more pads, which hold something."""
    layers, batch, _, width = states.stacked.shape
    noise = 100 * torch.randn(layers, batch, pads, width)
    mask = torch.cat([states.mask, torch.zeros(batch, pads, dtype=torch.bool)], 1)
    return HiddenStates(torch.cat([states.stacked, noise], 2), mask)


@pytest.mark.parametrize(("encoder", "lm"), PAIRS)
def test_forward(make_bridge, encoder, lm):
    bridge = make_bridge(encoder, lm, instruction="Answer:")
    states = bridge.encode(TEXTS)
    with torch.no_grad():
        together = bridge(hidden_states=states, labels=padded(TARGETS)).logits
        alone = [
            bridge(**bridge.encoder.tokenize([text]), labels=padded([target])).logits
            for text, target in zip(TEXTS, TARGETS, strict=True)
        ]
        torch.testing.assert_close(together, torch.cat(alone), **CLOSE)
        extra = bridge(hidden_states=wider(states, 13), labels=padded(TARGETS)).logits
        torch.testing.assert_close(extra, together, **CLOSE)
        # Labels padded further than any target needs.
        labels = torch.cat([padded(TARGETS), torch.full((8, 5), IGNORED)], 1)
        torch.testing.assert_close(
            bridge(hidden_states=states, labels=labels).logits, together, **CLOSE
        )
        order = [3, 0, 7, 1, 6, 2, 5, 4]
        shuffled = bridge(
            **bridge.encoder.tokenize([TEXTS[i] for i in order]),
            labels=padded([TARGETS[i] for i in order]),
        ).logits
        torch.testing.assert_close(shuffled, torch.cat([alone[i] for i in order]), **CLOSE)


@pytest.mark.parametrize(("encoder", "lm"), PAIRS)
def test_classify(make_bridge, encoder, lm):
    bridge = make_bridge(encoder, lm)
    expected = [bridge.classify(text, OPTIONS)[0] for text in TEXTS]
    for batch_size in (1, 3, 8):
        found = bridge.classify(TEXTS, OPTIONS, batch_size=batch_size)
        for mine, other in zip(found, expected, strict=True):
            assert mine.choice == other.choice
            assert mine.scores == pytest.approx(other.scores, abs=1e-4, rel=1e-5)
    few = bridge.classify(TEXTS, OPTIONS[2:])
    for mine, other in zip(few, expected, strict=True):
        for option, score in mine.scores.items():
            assert score == pytest.approx(other.scores[option], abs=1e-4)


@pytest.mark.parametrize(("encoder", "lm"), PAIRS)
def test_greedy_generation(make_bridge, encoder, lm):
    bridge = make_bridge(encoder, lm)
    arguments = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None}
    states = bridge.encode(TEXTS)
    together = bridge.generate(hidden_states=states, **arguments)
    assert together.shape == (8, 10)
    assert len({tuple(row) for row in together.tolist()}) > 2
    for row, text in zip(together, TEXTS, strict=True):
        assert torch.equal(bridge.generate(**bridge.encoder.tokenize([text]), **arguments)[0], row)
    assert torch.equal(bridge.generate(hidden_states=wider(states, 13), **arguments), together)


@pytest.mark.parametrize(("encoder", "lm"), PAIRS)
def test_the_kv_cache_changes_nothing(make_bridge, encoder, lm):
    """LangBridge's does: it shifts the attention mask by one on padded rows."""
    bridge = make_bridge(encoder, lm)
    found = {}
    for use_cache in (True, False):
        found[use_cache] = bridge.generate(
            hidden_states=bridge.encode(TEXTS),
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=None,
            use_cache=use_cache,
            output_logits=True,
            return_dict_in_generate=True,
        )
    assert torch.equal(found[True].sequences, found[False].sequences)
    assert len(found[True].logits) == 8
    for with_cache, without in zip(found[True].logits, found[False].logits, strict=True):
        torch.testing.assert_close(with_cache, without, **CLOSE)


@pytest.mark.parametrize("fusion", ["token-softmax", "global-softmax"])
def test_accumulated_gradients_are_those_of_one_batch(make_bridge, fusion):
    bridge = make_bridge(fusion=fusion, start="uniform")
    items = sum(map(len, TARGETS))
    trained = [p for p in bridge.parameters() if p.requires_grad]
    whole = bridge(**bridge.encoder.tokenize(TEXTS), labels=padded(TARGETS)).loss
    expected = torch.autograd.grad(whole, trained)
    total = 0.0
    for text, target in zip(TEXTS, TARGETS, strict=True):
        loss = bridge(
            **bridge.encoder.tokenize([text]), labels=padded([target]), num_items_in_batch=items
        ).loss
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(whole.item(), rel=1e-5)
    for parameter, gradient in zip(trained, expected, strict=True):
        off = (parameter.grad - gradient).abs().max()
        assert off <= 1e-5 * gradient.abs().max() + 1e-6
        assert gradient.abs().max() > 0
