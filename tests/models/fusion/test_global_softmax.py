import math

import pytest
import torch

from layerbridge.models.fusion.global_softmax import GlobalSoftmax
from layerbridge.models.hidden_states import HiddenStates


def random_states(layers=4, dtype=torch.float32):
    torch.manual_seed(1)
    stacked = torch.randn(layers, 2, 3, 8).to(dtype)
    return HiddenStates(stacked, torch.ones(2, 3, dtype=torch.bool))


def scattered(layers=4, **options):
    strategy = GlobalSoftmax(layers, 8, **options)
    with torch.no_grad():
        strategy.w.copy_(torch.tensor([0.01, -0.003, 0.008, 0.002])[:layers])
        strategy.theta.fill_(2e-4)
    return strategy


def naive(w, theta, base, factor, layers):
    tau = base + factor * theta
    e = [math.exp(tau * value) for value in w]
    alpha = [value / sum(e) for value in e]
    return alpha, sum(a * layer for a, layer in zip(alpha, layers, strict=True))


def test_equals_the_equation():
    strategy, states = scattered(), random_states()
    w, theta = strategy.w.tolist(), strategy.theta.item()
    alpha, fused = naive(w, theta, 1e2, 1e5, states.layers)
    torch.testing.assert_close(strategy(states), fused, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(strategy.weights(states)[1, 2], torch.tensor(alpha))
    assert strategy.weights(states).shape == (2, 3, 4)


def test_the_scale_multiplies_and_theta_moves_it():
    strategy = scattered(base=7.0, factor=3.0)
    with torch.no_grad():
        strategy.theta.fill_(0.5)
    assert strategy.scale().item() == 8.5
    alpha, _ = naive(strategy.w.tolist(), 0.5, 7.0, 3.0, random_states().layers)
    torch.testing.assert_close(strategy.alpha(), torch.tensor(alpha))


def test_gradients_of_w_and_theta_by_hand():
    strategy, states = scattered(), random_states()
    upstream = torch.randn(2, 3, 8)
    (strategy(states) * upstream).sum().backward()
    tau = 1e2 + 1e5 * strategy.theta.item()
    alpha, _ = naive(strategy.w.tolist(), strategy.theta.item(), 1e2, 1e5, states.layers)
    # g_l = <upstream, h_l>; dα_l/ds_m = α_l (δ_lm - α_m), s = τ·w
    g = [(upstream * layer).sum().item() for layer in states.layers]
    mean = sum(a * x for a, x in zip(alpha, g, strict=True))
    ds = [a * (x - mean) for a, x in zip(alpha, g, strict=True)]
    torch.testing.assert_close(
        strategy.w.grad, torch.tensor([tau * s for s in ds]), rtol=1e-4, atol=1e-3
    )
    theta = 1e5 * sum(s * w for s, w in zip(ds, strategy.w.tolist(), strict=True))
    assert strategy.theta.grad.item() == pytest.approx(theta, rel=1e-4)
    assert abs(theta) > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_with_and_without_gradients_alike(dtype):
    """A product rounded to bfloat16 in one of them would make answers unlike training."""
    strategy, states = scattered(), random_states(dtype=dtype)
    with torch.no_grad():
        without = strategy(HiddenStates(states.layers, states.mask))
    torch.testing.assert_close(strategy(states).detach(), without, atol=1e-6, rtol=0)


def test_float32_is_kept_under_autocast_and_for_bfloat16_states():
    strategy, states = scattered(), random_states(dtype=torch.bfloat16)
    _, expected = naive(
        strategy.w.tolist(), strategy.theta.item(), 1e2, 1e5, [h.float() for h in states.layers]
    )
    assert strategy.alpha().dtype == strategy(states).dtype == torch.float32
    torch.testing.assert_close(strategy(states), expected, atol=1e-5, rtol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert strategy.alpha().dtype == strategy.scale().dtype == torch.float32
        with torch.no_grad():
            fused = strategy(states)
    assert fused.dtype == torch.float32
    torch.testing.assert_close(fused, expected, atol=1e-5, rtol=0)


def test_bfloat16_parameters_still_make_float32_weights():
    """``bridge.to(bfloat16)`` must not turn τ·w into steps of 1/256."""
    strategy = scattered().to(torch.bfloat16)
    assert strategy.alpha().dtype == torch.float32


@pytest.mark.parametrize("layers", [2, 12, 24])
def test_where_it_starts(layers):
    last = GlobalSoftmax(layers, 8, start="last").alpha()
    assert last[-1].item() == pytest.approx(0.95, abs=1e-5)
    torch.testing.assert_close(last[:-1], torch.full((layers - 1,), 0.05 / (layers - 1)))
    strategy = GlobalSoftmax(layers, 8)
    torch.testing.assert_close(strategy.alpha(), torch.full((layers,), 1 / layers))
    assert strategy.theta.item() == pytest.approx(1e-5)
    torch.testing.assert_close(strategy.w, torch.full((layers,), 3e-5))
    assert strategy.scale().item() == pytest.approx(101)


def test_one_layer_is_that_layer():
    states = random_states(1)
    torch.testing.assert_close(GlobalSoftmax(1, 8, start="last")(states), states.last)


def test_rms_normalisation():
    strategy, states = scattered(normalize="rms"), random_states()
    loud = HiddenStates(states.stacked * torch.tensor([1, 9, 0.1, 2]).view(4, 1, 1, 1), states.mask)
    unit = [h / h.square().mean(-1, keepdim=True).sqrt() for h in states.layers]
    _, expected = naive(strategy.w.tolist(), strategy.theta.item(), 1e2, 1e5, unit)
    torch.testing.assert_close(strategy(loud), expected, atol=1e-5, rtol=0)
