import pytest
import torch

from layerbridge.errors import ConfigError
from layerbridge.models.fusion.uniform import Uniform
from layerbridge.models.hidden_states import HiddenStates


def states_of(stacked):
    return HiddenStates(stacked, torch.ones(stacked.shape[1:3], dtype=torch.bool))


def test_is_the_mean_and_has_nothing_to_train():
    stacked = torch.randn(5, 2, 4, 8)
    strategy = Uniform(5, 8)
    torch.testing.assert_close(strategy(states_of(stacked)), stacked.mean(0))
    assert list(strategy.parameters()) == []
    assert torch.equal(strategy.weights(states_of(stacked)), torch.full((2, 4, 5), 0.2))


def test_bfloat16_states_are_added_in_float32():
    stacked = torch.randn(5, 2, 4, 8).bfloat16()
    fused = Uniform(5, 8)(states_of(stacked))
    assert fused.dtype == torch.float32
    torch.testing.assert_close(fused, stacked.float().mean(0))


def test_rms_normalisation():
    stacked = torch.randn(3, 2, 4, 8) * torch.tensor([1, 30, 0.1]).view(3, 1, 1, 1)
    expected = (stacked / stacked.square().mean(-1, keepdim=True).sqrt()).mean(0)
    fused = Uniform(3, 8, normalize="rms")(states_of(stacked))
    torch.testing.assert_close(fused, expected, atol=1e-5, rtol=1e-5)


def test_fixed_weights_cannot_start_elsewhere():
    with pytest.raises(ConfigError) as caught:
        Uniform(3, 8, start="last")
    assert str(caught.value) == (
        "fusion 'uniform' cannot start at 'last': its weights are fixed; allowed: start 'uniform'"
    )
