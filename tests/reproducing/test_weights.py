"""The figure: drawn from the table's runs, and of what they learned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image

from layerbridge.models.bridge import LayerBridge
from layerbridge.reproducing import reproduce, weights
from layerbridge.reproducing.catalog import Experiment


@pytest.fixture
def figure(request_of, pair_preset):
    """A request for the figure, of the news' runs."""
    figure2 = Experiment("figure2", "F", "weights", "sinhala-news", "table3")
    return request_of(figure2, preset=replace(pair_preset, seeds=(0, 1)))


def test_it_trains_what_is_not_there_and_asks_nothing(
    figure, request_of, calls, quick, monkeypatch
):
    outcome = reproduce(figure)
    assert calls == [("train", "global-softmax", 0), ("train", "global-softmax", 1)]
    names = [path.name for path in outcome.paths]
    assert names == ["figure2.png", "training-seed-0.png", "training-seed-1.png", "table.md"]
    with Image.open(outcome.paths[0]) as image:
        assert min(image.size) > 300
    for seed in (0, 1):
        bridge = LayerBridge.from_pretrained(figure.runs / "global-softmax" / f"seed-{seed}")
        with torch.no_grad():
            wanted = bridge.fusion.weights(bridge.encode(["any"]))[0, 0]
        torch.testing.assert_close(
            torch.tensor(outcome.document["weights"][str(seed)]), wanted, atol=1e-5, rtol=1e-4
        )
    text = outcome.paths[-1].read_text(encoding="utf-8")
    assert "| layer | mean | seed 0 | seed 1 |" in text
    assert text.count("\n| 1 |") == 1

    # The table then has only to ask them, and the figure nothing at all.
    calls.clear()
    reproduce(request_of(preset=figure.preset))
    assert ("train", "global-softmax", 0) not in calls
    assert ("ask", "global-softmax", 1) in calls
    calls.clear()
    for name in ("layer_weights_by_layer", "layer_weights_in_training"):
        monkeypatch.setattr(weights.plots, name, lambda drawn, path, **_: path)
    assert reproduce(figure).document == outcome.document
    assert calls == []
