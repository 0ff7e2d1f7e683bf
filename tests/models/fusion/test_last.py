import torch

from layerbridge.models.fusion.last import Last
from layerbridge.models.hidden_states import HiddenStates


def test_is_the_last_state_and_has_nothing_to_train():
    stacked = torch.randn(3, 2, 4, 8)
    states = HiddenStates(stacked, torch.ones(2, 4, dtype=torch.bool))
    strategy = Last(3, 8)
    assert torch.equal(strategy(states), stacked[2])
    assert torch.equal(Last(3, 8, start="last")(states), stacked[2])
    assert list(strategy.parameters()) == []
    expected = torch.tensor([0.0, 0.0, 1.0]).expand(2, 4, 3)
    assert torch.equal(strategy.weights(states), expected)


def test_float32_whatever_the_encoders_dtype():
    stacked = torch.randn(3, 2, 4, 8).bfloat16()
    states = HiddenStates(stacked, torch.ones(2, 4, dtype=torch.bool))
    fused = Last(3, 8)(states)
    assert fused.dtype == torch.float32
    assert torch.equal(fused, stacked[2].float())
    assert Last(3, 8).weights(states).dtype == torch.float32


def test_rms_normalisation():
    stacked = 5 * torch.randn(3, 2, 4, 8)
    states = HiddenStates(stacked, torch.ones(2, 4, dtype=torch.bool))
    expected = stacked[2] / stacked[2].square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(Last(3, 8, normalize="rms")(states), expected)
