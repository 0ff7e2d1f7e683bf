import pytest
import torch

from layerbridge.errors import ConfigError
from layerbridge.models import fusion
from layerbridge.models.hidden_states import HiddenStates


def refused(*arguments, **options):
    with pytest.raises(ConfigError) as caught:
        fusion.build(*arguments, num_layers=3, width=8, **options)
    return str(caught.value)


def test_every_name_builds_a_strategy_that_keeps_the_contract():
    assert fusion.names() == ("last", "uniform", "fixed", "global-softmax", "token-softmax")
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


def test_options_reach_the_strategy():
    strategy = fusion.build("token-softmax", num_layers=3, width=8, heads=2, feedforward=5)
    assert (strategy.heads, strategy.block.linear1.out_features) == (2, 5)
    assert fusion.build("global-softmax", num_layers=3, width=8, base=5.0).base == 5.0


def test_unknown_names_and_options():
    assert refused("softmax") == (
        "unknown fusion 'softmax'; allowed: last, uniform, fixed, global-softmax, token-softmax"
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
