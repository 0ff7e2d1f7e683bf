import inspect

import pytest
import torch
from torch import nn

import layerbridge
from layerbridge.errors import ConfigError
from layerbridge.models import fusion
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.fusion import registry
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.language_model import IGNORED


def refused(*arguments, **options):
    with pytest.raises(ConfigError) as caught:
        fusion.build(*arguments, num_layers=3, width=8, **options)
    return str(caught.value)


def test_every_name_builds_a_strategy_that_keeps_the_contract():
    assert fusion.names() == (
        *("last", "uniform", "fixed", "global-softmax", "token-softmax"),
        *("scalar-mix", "fine-grained", "attention", "dwatt"),
    )
    states = HiddenStates(torch.randn(3, 2, 4, 8), torch.ones(2, 4, dtype=torch.bool))
    for name in fusion.names():
        strategy = fusion.build(name, num_layers=3, width=8, normalize="rms")
        assert (strategy.num_layers, strategy.width, strategy.normalize) == (3, 8, "rms")
        assert strategy(states).shape == (2, 4, 8)
        torch.testing.assert_close(strategy.weights(states).sum(-1), torch.ones(2, 4))


@pytest.mark.parametrize("normalize", [None, "rms"])
@pytest.mark.parametrize("name", fusion.names())
def test_layers_that_a_strategy_does_not_read_need_no_numbers(name, normalize):
    layers, mask = torch.randn(3, 2, 4, 8), torch.ones(2, 4, dtype=torch.bool)
    strategy = fusion.build(name, num_layers=3, width=8, normalize=normalize).eval()
    assert list(strategy.required_layers) == ([2] if name in ("last", "fixed") else [0, 1, 2])
    bare = [
        layer if place in strategy.required_layers else torch.empty_like(layer, device="meta")
        for place, layer in enumerate(layers)
    ]
    whole, states = HiddenStates(layers, mask), HiddenStates(bare, mask)
    assert torch.equal(strategy(states), strategy(whole))
    assert torch.equal(strategy.weights(states), strategy.weights(whole))


@pytest.mark.parametrize("normalize", [None, "rms"])
@pytest.mark.parametrize("name", fusion.names())
def test_padding_and_gradients_do_not_change_a_token(name, normalize):
    """A token's fused state depends on nothing but its own states, with gradients or without."""
    torch.manual_seed(0)
    layers = torch.randn(3, 2, 5, 8)
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    strategy = fusion.build(name, num_layers=3, width=8, normalize=normalize).eval()
    found = strategy(HiddenStates(layers, mask))
    with torch.no_grad():
        alone = strategy(HiddenStates(layers[:, :1, :2].contiguous(), mask[:1, :2]))
        other = layers.clone()
        other[:, 0, 2:] = 9.0
        beside = strategy(HiddenStates(list(other), mask))
        weights = strategy.weights(HiddenStates(other, mask))
    torch.testing.assert_close(found[0, :2], alone[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0, :2], beside[0, :2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], beside[1], atol=1e-5, rtol=1e-5)
    whole = strategy.weights(HiddenStates(layers, mask))
    torch.testing.assert_close(weights[0, :2], whole[0, :2], atol=1e-5, rtol=1e-5)
    assert found.dtype == strategy(HiddenStates(layers.bfloat16(), mask)).dtype == torch.float32


def starting_last():
    return [name for name in fusion.names() if name not in ("uniform", "fixed")]


@pytest.mark.parametrize("name", starting_last())
def test_starts_near_the_last_layer_if_told_to(name):
    states = HiddenStates(torch.randn(6, 2, 4, 8), torch.ones(2, 4))
    strategy = fusion.build(name, num_layers=6, width=8, start="last").eval()
    if name == "attention":
        torch.nn.init.zeros_(strategy.query)  # its scores are random
    off = (strategy(states) - states.last).abs().max()
    assert off < 0.05 * 2 * states.stacked.abs().max()
    if name == "dwatt":  # which adds to the last state
        assert off == 0
    elif name not in ("last", "token-softmax"):
        expected = torch.tensor([0.01] * 5 + [0.95]).expand(2, 4, 6)
        torch.testing.assert_close(strategy.weights(states), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["scalar-mix", "fine-grained", "attention", "dwatt"])
def test_saved_and_loaded_it_answers_alike(name, make_bridge, tmp_path):
    bridge = make_bridge("mt5", "llama", name, start="last")
    bridge.save_pretrained(tmp_path)
    loaded = LayerBridge.from_pretrained(tmp_path, dtype="float32")
    texts = ["The teams entertained the crowd", "ම"]
    assert loaded.classify(texts, ["a", "b"]) == bridge.classify(texts, ["a", "b"])
    before = bridge.classify(texts, ["a", "b"], batch_size=1)
    for one, other in zip(loaded.classify(texts, ["a", "b"]), before, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_options_reach_the_strategy():
    strategy = fusion.build("token-softmax", num_layers=3, width=8, heads=2, feedforward=5)
    assert (strategy.heads, strategy.block.linear1.out_features) == (2, 5)
    assert fusion.build("global-softmax", num_layers=3, width=8, base=5.0).base == 5.0
    assert fusion.build("dwatt", num_layers=3, width=8, inner=5).keys.shape == (3, 5)
    assert refused("dwatt", inner=0) == "inner=0 is too small; allowed: 1 or more"


def test_unknown_names_and_options():
    assert refused("softmax") == (
        "unknown fusion 'softmax'; allowed: last, uniform, fixed, global-softmax, token-softmax, "
        "scalar-mix, fine-grained, attention, dwatt"
    )
    assert refused("last", heads=2) == "fusion 'last' has no option 'heads'; allowed: none"
    assert refused("token-softmax", head=2) == (
        "fusion 'token-softmax' has no option 'head'; "
        "allowed: dropout, feedforward, heads, implementation"
    )
    assert refused("global-softmax", tau=1) == (
        "fusion 'global-softmax' has no option 'tau'; allowed: base, factor"
    )
    assert refused("last", self=1).startswith("fusion 'last' has no option 'self'")


class FirstLayer(fusion.Fusion):
    """A strategy from outside the library: f = scale · h₁."""

    def __init__(self, num_layers, width, *, start="uniform", normalize=None, scale=1.0):
        super().__init__(num_layers, width, start=start, normalize=normalize)
        self.scale = nn.Parameter(torch.tensor(scale))

    @property
    def required_layers(self):
        return [0]

    def fuse(self, states):
        return self.scale * states.layers[0].float()

    def weights(self, states):
        return torch.eye(self.num_layers)[0].expand(*states.mask.shape, -1)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(registry, "STRATEGIES", dict(registry.STRATEGIES))
    layerbridge.register_fusion("first-layer", FirstLayer)


def test_a_registered_strategy_is_trained_saved_and_loaded(registered, folder, tmp_path):
    assert fusion.names()[-1] == "first-layer"
    torch.manual_seed(0)
    bridge = LayerBridge.from_backbones(
        str(folder("mt5")),
        str(folder("llama")),
        "first-layer",
        fusion_options={"scale": 2.0},
        dtype="float32",
    )
    optimizer = torch.optim.SGD([p for p in bridge.parameters() if p.requires_grad], lr=0.01)
    batch = bridge.encoder.tokenize(["The market rose", "a"])
    labels = torch.tensor([[5, 6, 1], [7, 1, IGNORED]])
    losses = []
    for _ in range(2):
        loss = bridge(**batch, labels=labels).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[1] < losses[0]
    assert bridge.fusion.scale.item() != 2.0
    bridge.save_pretrained(tmp_path)
    loaded = LayerBridge.from_pretrained(tmp_path, dtype="float32")
    assert isinstance(loaded.fusion, FirstLayer)
    assert torch.equal(loaded.fusion.scale, bridge.fusion.scale)
    texts = ["The teams entertained the crowd"]
    assert loaded.classify(texts, ["a", "b"]) == bridge.classify(texts, ["a", "b"])
    (weights,) = loaded.layer_weights(texts)
    assert weights.weights[:, 0].tolist() == [1.0] * len(weights.tokens)


def test_what_cannot_be_registered(registered):
    layerbridge.register_fusion("first-layer", FirstLayer)  # again: nothing changes
    with pytest.raises(ConfigError) as caught:
        layerbridge.register_fusion("last", FirstLayer)
    assert str(caught.value) == (
        "the fusion 'last' is already registered; next: choose another name"
    )
    register = inspect.unwrap(layerbridge.register_fusion)  # without the tests' own type check
    for strategy in (nn.Linear, FirstLayer(3, 8), "first"):
        with pytest.raises(ConfigError) as caught:
            register("other", strategy)
        assert str(caught.value).endswith(
            " is not a fusion strategy; allowed: a subclass of Fusion"
        )
    assert "other" not in fusion.names()
