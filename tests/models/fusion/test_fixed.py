import pytest
import torch

from layerbridge.errors import ConfigError
from layerbridge.models.fusion.fixed import Fixed
from layerbridge.models.fusion.last import Last
from layerbridge.models.hidden_states import HiddenStates


def states_of(layers):
    shape = next(layer.shape for layer in layers if not layer.is_meta)
    return HiddenStates(layers, torch.ones(shape[:2], dtype=torch.bool))


@pytest.mark.parametrize(("layers", "places"), [([2, 3], [1, 2]), ([-1, -2], [3, 4]), (1, [0])])
def test_is_the_mean_of_the_named_layers(layers, places):
    stacked = torch.randn(5, 2, 4, 8)
    strategy = Fixed(5, 8, layers=layers)
    states = states_of(stacked.unbind(0))
    assert list(strategy.required_layers) == places
    torch.testing.assert_close(strategy(states), stacked[places].mean(0))
    assert list(strategy.parameters()) == []
    weights = strategy.weights(states)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4))
    assert weights[0, 0].nonzero().flatten().tolist() == places


def test_of_the_last_layer_it_is_last():
    states = states_of(torch.randn(3, 2, 4, 8).unbind(0))
    assert torch.equal(Fixed(3, 8)(states), Last(3, 8)(states))


@pytest.mark.parametrize("normalize", [None, "rms"])
def test_layers_without_numbers_are_never_looked_at(normalize):
    stacked = torch.randn(4, 2, 3, 8) * torch.tensor([1, 30, 0.1, 1]).view(4, 1, 1, 1)
    strategy = Fixed(4, 8, layers=[1, 2], normalize=normalize)
    unread = torch.empty(2, 3, 8, device="meta")
    some = strategy(states_of([*stacked[:2], unread, unread]))
    assert torch.equal(some, strategy(states_of(stacked.unbind(0))))
    if normalize:
        unit = stacked[:2] / stacked[:2].square().mean(-1, keepdim=True).sqrt()
        torch.testing.assert_close(some, unit.mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": []}, "fusion 'fixed' needs at least one layer; allowed: 1 to 3, or -3 to -1"),
        ({"layers": [0]}, "the encoder has no layer 0; allowed: 1 to 3, or -3 to -1"),
        ({"layers": [4]}, "the encoder has no layer 4; allowed: 1 to 3, or -3 to -1"),
        ({"layers": -4}, "the encoder has no layer -4; allowed: 1 to 3, or -3 to -1"),
        (
            {"start": "last"},
            "fusion 'fixed' cannot start at 'last': its weights are fixed; "
            "allowed: start 'uniform'",
        ),
    ],
)
def test_what_does_not_fit(options, message):
    with pytest.raises(ConfigError) as error:
        Fixed(3, 8, **options)
    assert str(error.value) == message
