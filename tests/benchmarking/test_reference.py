"""The rival must do the same thing as the bridge, or beating it would mean nothing."""

import pytest
import torch

from layerbridge.benchmarking import sample
from layerbridge.benchmarking.optimizations import ALL, OPTIMIZATIONS, OptimizedStep
from layerbridge.benchmarking.pair import Pair
from layerbridge.benchmarking.reference import ReferenceBridge, ReferenceTokenSoftmax
from layerbridge.models import fusion
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.inference import option_ids
from layerbridge.training.collation import pad_labels

PAIR = Pair("shape:tiny-encoder", "shape:tiny-lm", "float32", "cpu")
FUSIONS = ("last", "global-softmax", "token-softmax")


@pytest.fixture(scope="module")
def backbones():
    return PAIR.load()


@pytest.fixture(scope="module")
def rows(backbones):
    return sample.rows(backbones[0], 6)


def new_bridge(backbones, name, **settings):
    options = {"dropout": 0.0} if name == "token-softmax" else {}
    bridge = PAIR.bridge(name, backbones=backbones, fusion_options=options, **settings).train()
    # Away from the start, where every layer weighs the same.
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in bridge.fusion.parameters():
            parameter.add_(0.3 * parameter.abs().mean() * torch.randn_like(parameter))
    return bridge


@pytest.mark.parametrize("instruction", [None, "country currency"])
@pytest.mark.parametrize("name", FUSIONS)
def test_same_loss_and_gradients(backbones, rows, name, instruction):
    bridge = new_bridge(backbones, name, instruction=instruction)
    rival = ReferenceBridge(bridge).train()
    loss = OptimizedStep(bridge, ALL).loss(rows)
    theirs = rival.loss(rows)
    torch.testing.assert_close(loss, theirs, atol=1e-5, rtol=1e-5)
    loss.backward()
    theirs.backward()
    pairs = [
        (bridge.projection.linear.weight, rival.projection.weight),
        (bridge.projection.boundary, rival.boundary),
        *zip(bridge.fusion.parameters(), rival.fusion.parameters(), strict=True),
    ]
    for ours, other in pairs:
        assert ours.grad is not None
        assert other.grad is not None
        scale = other.grad.abs().max().clamp_min(1e-6)
        assert ((ours.grad - other.grad).abs().max() / scale).item() < 1e-3


@pytest.mark.parametrize("left_out", [None, *OPTIMIZATIONS])
def test_every_optimization_is_exact(backbones, rows, left_out):
    optimizations = ALL - {left_out}
    bridge = new_bridge(backbones, "token-softmax")
    expected = ReferenceBridge(bridge).train().loss(rows)
    bridge.fusion.implementation = "collapsed" if "collapsed" in optimizations else "reference"
    loss = OptimizedStep(bridge, optimizations).loss(rows)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


def test_the_cache_reads_each_text_once(backbones, rows):
    bridge = new_bridge(backbones, "last")
    step, seen = OptimizedStep(bridge), []
    handle = bridge.encoder.model.register_forward_pre_hook(lambda *_: seen.append(1))
    try:
        step.loss(rows)
        first = len(seen)
        step.loss(rows)
    finally:
        handle.remove()
    assert first == len(seen) == 1
    assert bridge.encoder.cache is None  # the rival, on the same encoder, has none


def test_batches_in_order_or_by_length(rows):
    in_order = sample.batches(rows, 2)
    assert [[row.id for row in batch] for batch in in_order] == [["0", "1"], ["2", "3"], ["4", "5"]]
    grouped = sample.batches(rows, 2, [5, 1, 4, 2, 6, 3])
    assert [[row.id for row in batch] for batch in grouped] == [["1", "3"], ["5", "2"], ["0", "4"]]


def test_reference_fusion_is_the_papers_block():
    torch.manual_seed(0)
    ours = fusion.build("token-softmax", num_layers=5, width=24).eval()
    rival = ReferenceTokenSoftmax(5, 24).eval()
    rival.load_state_dict(ours.state_dict())
    layers = [torch.randn(2, 7, 24) for _ in range(5)]
    mask = torch.ones(2, 7, dtype=torch.bool)
    torch.testing.assert_close(
        rival(layers), ours(HiddenStates(layers, mask)), atol=1e-5, rtol=1e-5
    )


def test_generation_is_the_bridges_own(backbones, rows):
    bridge = new_bridge(backbones, "token-softmax").eval()
    rival = ReferenceBridge(bridge).eval()
    texts = [row.text for row in rows]
    assert rival.answers(texts, 5) == bridge.generate_text(texts, max_new_tokens=5)


def test_training_changes_no_backbone(backbones, rows):
    bridge = new_bridge(backbones, "token-softmax")
    rival = ReferenceBridge(bridge).train()
    rival.loss(rows).backward()
    assert not rival.lm.training
    assert all(p.grad is None for model in (rival.encoder, rival.lm) for p in model.parameters())


def test_labels_of_the_sample_are_words_of_the_model(backbones, rows):
    labels = pad_labels([option_ids(backbones[1], row.target) for row in rows])
    assert labels.shape == (6, 2)
    assert len({int(label) for label in labels[:, 0]}) == 3
