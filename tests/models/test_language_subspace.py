import pytest
import torch

from layerbridge.models.language_subspace import language_subspace


@pytest.mark.parametrize("rank", [1, 3])
def test_finds_the_directions_in_which_languages_differ(rank):
    """Means built as shared + directions · coefficients, the two orthogonal."""
    torch.manual_seed(rank)
    directions, _ = torch.linalg.qr(torch.randn(10, rank, dtype=torch.float64))
    shared = torch.randn(10, dtype=torch.float64)
    shared -= directions @ (directions.T @ shared)
    coefficients = torch.randn(7, rank, dtype=torch.float64) + 2  # not centered
    means = shared + coefficients @ directions.T
    basis = language_subspace(means.float(), rank)
    torch.testing.assert_close(basis @ basis.T, directions @ directions.T, atol=1e-5, rtol=0)
    # Of the means only what they share is left, which their plain average does not give.
    left = means - means @ basis @ basis.T
    torch.testing.assert_close(left, shared.expand(7, -1), atol=1e-4, rtol=0)
    plain, _, _ = torch.linalg.svd((means - means.mean(0)).T, full_matrices=False)
    apart = means - means @ plain[:, :rank] @ plain[:, :rank].T
    assert not torch.allclose(apart, means.mean(0).expand(7, -1), atol=1e-2)


def test_a_basis_is_orthonormal_also_of_noisy_means():
    torch.manual_seed(0)
    basis = language_subspace(torch.randn(6, 12) + 5, 2)
    assert basis.shape == (12, 2)
    torch.testing.assert_close(basis.T @ basis, torch.eye(2, dtype=torch.float64))
