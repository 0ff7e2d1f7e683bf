import math

import pytest
import torch

from layerbridge.models.projection.mlp import MlpProjection


def gelu(x):
    return x * (1 + math.erf(x / math.sqrt(2))) / 2


@pytest.mark.parametrize(
    ("options", "act", "inner"),
    [
        ({}, gelu, 16),
        ({"activation": "relu"}, lambda x: max(x, 0.0), 16),
        ({"activation": "relu", "factor": 1}, lambda x: max(x, 0.0), 8),
    ],
)
def test_is_two_maps_with_an_activation_between(options, act, inner):
    torch.manual_seed(0)
    projection = MlpProjection(8, 12, **options)
    projection.standardize(torch.randn(8), torch.rand(8) + 0.5)
    fused = torch.randn(2, 3, 8)
    assert projection.hidden.weight.shape == (inner, 8)
    found = projection(fused)
    for b in range(2):
        for s in range(3):
            x = (fused[b, s] - projection.mean) / projection.std
            hidden = projection.hidden.weight @ x + projection.hidden.bias
            hidden = torch.tensor([act(value) for value in hidden.tolist()])
            expected = projection.linear.weight @ hidden + projection.linear.bias
            torch.testing.assert_close(found[b, s], expected, atol=1e-5, rtol=1e-4)
    assert {name for name, _ in projection.named_parameters()} == {
        "hidden.weight", "hidden.bias", "linear.weight", "linear.bias", "boundary",
    }  # fmt: skip
