"""The language subspace: the directions in which the means of languages differ.

LSAR (Xie et al. 2022, arXiv 2401.05792, algorithm 1) splits the means M [E, n] of n languages into
what they share and what tells them apart, such that the two are orthogonal:

    M ≈ μ 1ᵀ + B Γᵀ,   μ ⟂ B,   B [E, r] orthonormal

It takes two singular value decompositions. The plain mean of the columns is not orthogonal to what
is left of them; from the rank-r approximation M' around it, the μ that is, follows in closed form
as a/‖a‖² with a = (M'⁺)ᵀ 1, for which M'ᵀμ = ‖μ‖² 1.

Legend: n languages, E encoder width, r rank.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def language_subspace(means: Float[Tensor, "n E"], rank: int) -> Float[Tensor, "E r"]:
    """Returns an orthonormal basis B of the language subspace, in float64.

    Args:
        means: one row for each language.
        rank: r, below n.
    """
    assert 0 < rank < len(means), (rank, len(means))
    columns = means.double().T  # M [E, n]
    center = columns.mean(1, keepdim=True)
    approximation = center + _truncated(columns - center, rank)
    ones = torch.ones(len(means), 1, dtype=columns.dtype, device=columns.device)
    a = torch.linalg.pinv(approximation).T @ ones  # [E, 1]
    common = a / a.square().sum()
    left, _, _ = torch.linalg.svd(approximation - common, full_matrices=False)
    return left[:, :rank]


def _truncated(matrix: Float[Tensor, "E n"], rank: int) -> Float[Tensor, "E n"]:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left[:, :rank] * values[:rank] @ right[:rank]
