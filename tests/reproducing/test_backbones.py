"""Where the encoder's states are kept, and that a text is then read once."""

from __future__ import annotations

import pytest
import torch

from layerbridge.models.state_cache import MappedStateCache, StateCache
from layerbridge.reproducing import backbones
from layerbridge.reproducing.backbones import Backbones

TEXTS = ["a market rose", "the teams", "the market"]


@pytest.mark.parametrize(
    ("memory", "disk", "kind"),
    [(1e12, 0.0, StateCache), (0.0, 1e12, MappedStateCache), (0.0, 0.0, type(None))],
)
def test_a_text_is_read_once_where_its_states_fit(
    request_of, load_encoder, monkeypatch, tmp_path, memory, disk, kind
):
    monkeypatch.setattr(backbones, "free_memory", lambda device: memory)
    monkeypatch.setattr(backbones, "max_file_bytes", lambda folder: disk)
    models = Backbones(request_of())
    models.encoder = encoder = load_encoder("xlm-r")
    wanted = encoder.encode(TEXTS)
    mask = wanted.mask
    read = []
    original = encoder.tokenize
    monkeypatch.setattr(encoder, "tokenize", lambda texts: read.extend(texts) or original(texts))
    with models.states(TEXTS, tmp_path):
        assert type(encoder.cache) is kind
        for _ in range(3):
            found = encoder.encode(TEXTS)
            torch.testing.assert_close(found.stacked[:, mask], wanted.stacked[:, mask])
        with models.no_cache():
            assert encoder.cache is None
        assert type(encoder.cache) is kind
    assert sorted(read) == sorted(TEXTS * (3 if kind is type(None) else 1))
    assert encoder.cache is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("count", "device", "where"),
    [(1e9, "cpu", "memory"), (2e9, "cpu", "disk"), (2e9, "cuda", None), (9e9, "cpu", None)],
)
def test_place_for(monkeypatch, tmp_path, count, device, where):
    monkeypatch.setattr(backbones, "free_memory", lambda device: 8e9)
    monkeypatch.setattr(backbones, "max_file_bytes", lambda folder: 3e9)
    assert backbones.place_for(count, device, tmp_path) == where


def test_the_machine_has_some_memory():
    assert 1e6 < backbones.free_memory("cpu") < 1e15
