from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from layerbridge.models.moments import Moments, ridge


@pytest.mark.parametrize("penalty", [0.01, 0.1, 10.0])
def test_ridge_is_scikit_learns(penalty):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 7)) * np.arange(1, 8) + 3
    y = x @ rng.normal(size=(7, 4)) + rng.normal(size=(50, 4)) - 2
    # λ = penalty · N · the mean variance of x; the intercept is not punished.
    expected = Ridge(alpha=penalty * 50 * x.var(0).mean()).fit(x, y)
    batches = zip(torch.from_numpy(x).split(7), torch.from_numpy(y).split(7), strict=True)
    moments = reduce(add, (Moments.of(*batch) for batch in batches))
    weight, bias, explained = ridge(moments, penalty)
    np.testing.assert_allclose(weight.numpy(), expected.coef_, rtol=1e-8)
    np.testing.assert_allclose(bias.numpy(), expected.intercept_, rtol=1e-8)
    residual = ((y - expected.predict(x)) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
    assert explained == pytest.approx(1 - residual)


@pytest.mark.parametrize("size", [1, 2, 9, 50])
def test_moments_are_those_of_all_pairs_at_once(size):
    torch.manual_seed(0)
    x = torch.randn(50, 6) * torch.arange(1, 7) + torch.tensor([0, 1e3, -50, 0, 7, 0.1])
    y = torch.randn(50, 4) + 1e3
    moments = reduce(add, map(Moments.of, x.split(size), y.split(size)))
    a, b = x.double() - x.double().mean(0), y.double() - y.double().mean(0)
    assert moments.count == 50
    exact = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(moments.x_mean, x.double().mean(0), **exact)
    torch.testing.assert_close(moments.gram, a.T @ a, **exact)
    torch.testing.assert_close(moments.cross, a.T @ b, **exact)
    torch.testing.assert_close(moments.y_squares, b.square().sum(), **exact)
    torch.testing.assert_close(moments.x_std, x.double().std(0, correction=0), **exact)
    mean, std = torch.randn(6), torch.rand(6) + 1
    expected = Moments.of((x.double() - mean) / std, y)
    found = moments.standardized(mean, std)
    torch.testing.assert_close(found.x_mean, expected.x_mean, **exact)
    torch.testing.assert_close(found.gram, expected.gram, **exact)
    torch.testing.assert_close(found.cross, expected.cross, **exact)
