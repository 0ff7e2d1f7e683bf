import pytest
import torch

from layerbridge.models.projection import Projection


def test_is_affine():
    projection = Projection(8, 12)
    fused = torch.randn(2, 3, 8)
    weight, bias = projection.linear.weight, projection.linear.bias
    expected = torch.empty(2, 3, 12)
    for b in range(2):
        for s in range(3):
            expected[b, s] = weight @ fused[b, s] + bias
    torch.testing.assert_close(projection(fused), expected)


def test_standardises_each_dimension_of_its_input():
    torch.manual_seed(0)
    projection = Projection(8, 12)
    states = torch.randn(50, 8) * torch.arange(1, 9) + 30
    projection.standardize(states.mean(0), states.std(0, correction=0))
    weight, bias = projection.linear.weight, projection.linear.bias
    for i in range(8):
        column = states[:, i].tolist()
        mean = sum(column) / 50
        deviation = (sum((x - mean) ** 2 for x in column) / 50) ** 0.5
        assert projection.mean[i].item() == pytest.approx(mean, rel=1e-5)
        assert projection.std[i].item() == pytest.approx(deviation, rel=1e-4)
    standard = (states - projection.mean) / projection.std
    found = projection(states[None])[0]
    torch.testing.assert_close(found, standard @ weight.T + bias, atol=1e-5, rtol=1e-5)
    assert {name for name, _ in projection.named_parameters()} == {
        "linear.weight",
        "linear.bias",
        "boundary",
    }


def test_a_dimension_that_hardly_moves_is_not_blown_up():
    projection = Projection(8, 12)
    states = torch.randn(50, 8)
    states[:, 3] = 5.0
    projection.standardize(states.mean(0), states.std(0, correction=0))
    assert projection.std[3].item() == pytest.approx(0.01 * 7 / 8, rel=0.2)
    assert projection(states[None]).isfinite().all()


def test_boundary_starts_at_zero_and_is_trained_or_absent():
    boundary = Projection(8, 12).boundary
    assert boundary.shape == (12,)
    assert boundary.count_nonzero() == 0
    assert boundary.requires_grad
    without = Projection(8, 12, boundary=False)
    assert without.boundary is None
    assert not [name for name in without.state_dict() if "boundary" in name]


def test_rescale_sets_the_scale_that_comes_out():
    torch.manual_seed(0)
    projection = Projection(256, 512)
    fused = 7.0 * torch.randn(4, 50, 256) + 3
    states = fused.flatten(0, 1)
    projection.standardize(states.mean(0), states.std(0, correction=0))
    projection.rescale(0.136)
    rms = projection(fused).square().mean().sqrt().item()
    assert abs(rms / 0.136 - 1) < 0.02
    assert projection.linear.bias.count_nonzero() == 0
