"""Backbones come out of training exactly as they went in."""

import hashlib

import pytest
import torch

from layerbridge.models.language_model import IGNORED

LABELS = torch.tensor([[5, 6, 1], [7, 1, IGNORED]])


def digest(module):
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("fusion", ["global-softmax", "token-softmax"])
@pytest.mark.parametrize(("encoder", "lm"), [("mt5", "llama"), ("m2m100", "gemma2")])
def test_a_step_moves_the_bridge_and_nothing_else(make_bridge, fusion, encoder, lm):
    bridge = make_bridge(encoder, lm, fusion).train()
    before = digest(bridge.encoder), digest(bridge.language_model)
    tensors = {name: t.clone() for name, t in bridge.trained_state_dict().items()}
    # Every parameter, as an optimizer gets them that knows no better.
    optimizer = torch.optim.AdamW(bridge.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(2):
        batch = bridge.encoder.tokenize(["The market rose", "猫"])
        bridge(**batch, labels=LABELS).loss.backward()
        optimizer.step()
    assert (digest(bridge.encoder), digest(bridge.language_model)) == before
    backbones = [*bridge.encoder.parameters(), *bridge.language_model.parameters()]
    assert all(p.grad is None for p in backbones)
    for name, tensor in bridge.trained_state_dict().items():
        constant = name in ("projection.mean", "projection.std")
        assert torch.equal(tensor, tensors[name]) == constant, name
        assert tensor.isfinite().all()


def test_answering_leaves_modes_and_tensors_alone(make_bridge):
    bridge = make_bridge().train()
    tensors = {name: t.clone() for name, t in bridge.trained_state_dict().items()}
    bridge.classify(["a"], ["x", "y"])
    bridge.generate_text(["a"], max_new_tokens=2)
    bridge.layer_weights(["a"])
    assert bridge.training
    assert bridge.fusion.training
    assert not bridge.encoder.training
    assert not bridge.language_model.training
    for name, tensor in bridge.trained_state_dict().items():
        assert torch.equal(tensor, tensors[name])
