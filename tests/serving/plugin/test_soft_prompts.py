"""Soft prompts without a language model are those of the bridge."""

import pytest
import torch

import tiny
from layerbridge.models.backbone import LoadOptions
from layerbridge.serving.plugin import soft_prompts
from layerbridge.serving.plugin.soft_prompts import SoftPrompts

TEXTS = ["The market rose", "a", "ශ්‍රී ලංකාව", "the teams of the market entertained the crowd"]


def saved(bridge, folder):
    bridge.save_pretrained(folder)
    ids = bridge.encoder.tokenize(TEXTS)
    masks = ids["attention_mask"].bool()
    rows = [row[mask] for row, mask in zip(ids["input_ids"], masks, strict=True)]
    return SoftPrompts.load(str(folder), LoadOptions(dtype="float32")), rows


@pytest.mark.parametrize("tokens", [2**15, 16], ids=["together", "in several batches"])
@pytest.mark.parametrize(
    ("encoder", "settings"),
    [
        *[(encoder, {}) for encoder in tiny.ENCODERS],
        ("mt5", {"fusion": "last", "boundary": False, "normalize": "rms"}),
        ("mt5", {"projection": "perceiver", "projection_options": {"latents": 3}}),
    ],
)
def test_they_are_the_bridges(encoder, settings, tokens, make_bridge, tmp_path, monkeypatch):
    monkeypatch.setattr(soft_prompts, "CPU_TOKENS", tokens)
    bridge = make_bridge(encoder, **settings)
    prompts, rows = saved(bridge, tmp_path)
    begin = bridge.language_model.bos_id is not None
    for text, found in zip(TEXTS, prompts(rows, [None] * len(rows)), strict=True):
        segments = bridge.prefix(bridge.encode([text]))[begin:]
        expected = torch.cat([segment.embeds[0][segment.mask[0]] for segment in segments])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_layer_weights_are_the_bridges(make_bridge, tmp_path):
    bridge = make_bridge()
    prompts, rows = saved(bridge, tmp_path)
    for text, row in zip(TEXTS, rows, strict=True):
        (expected,) = bridge.layer_weights([text])
        torch.testing.assert_close(prompts.layer_weights(row), expected.weights)
