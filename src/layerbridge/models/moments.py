"""Moments of pairs of vectors, summed up batch by batch; and ridge regression on them.

Legend: N pairs in all, n pairs of a batch, E width of x, D width of y.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """What N pairs (x, y) leave behind: their number, means and centered products.

    float64 on the pairs' device; float32 on Apple's GPU, which has no float64.

    Attributes:
        count: N.
        x_mean: mean of x.
        y_mean: mean of y.
        gram: Σ (x - x̄)(x - x̄)ᵀ.
        cross: Σ (x - x̄)(y - ȳ)ᵀ.
        y_squares: Σ ‖y - ȳ‖².
    """

    count: int
    x_mean: Float[Tensor, " E"]
    y_mean: Float[Tensor, " D"]
    gram: Float[Tensor, "E E"]
    cross: Float[Tensor, "E D"]
    y_squares: Float[Tensor, ""]

    @classmethod
    def of(cls, x: Float[Tensor, "n E"], y: Float[Tensor, "n D"]) -> Moments:
        """Returns the moments of one batch."""
        dtype = torch.float32 if x.device.type == "mps" else torch.float64
        x, y = x.to(dtype), y.to(dtype)
        x_mean, y_mean = x.mean(0), y.mean(0)
        x, y = x - x_mean, y - y_mean
        return cls(len(x), x_mean, y_mean, x.T @ x, x.T @ y, y.square().sum())

    def __add__(self, other: Moments) -> Moments:
        """Returns the moments of both sets of pairs (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        share, weight = other.count / count, self.count * other.count / count
        dx, dy = other.x_mean - self.x_mean, other.y_mean - self.y_mean
        return Moments(
            count,
            self.x_mean + share * dx,
            self.y_mean + share * dy,
            (self.gram + other.gram).addr_(dx, dx, alpha=weight),
            (self.cross + other.cross).addr_(dx, dy, alpha=weight),
            self.y_squares + other.y_squares + weight * dy.square().sum(),
        )

    @property
    def x_std(self) -> Float[Tensor, " E"]:
        """Returns the standard deviation of each dimension of x, without Bessel's correction."""
        return (self.gram.diagonal() / self.count).sqrt()

    def standardized(self, mean: Float[Tensor, " E"], std: Float[Tensor, " E"]) -> Moments:
        """Returns the moments of the pairs ((x - mean) / std, y)."""
        mean, std = mean.to(self.gram), std.to(self.gram)
        return replace(
            self,
            x_mean=(self.x_mean - mean) / std,
            gram=self.gram / std[:, None] / std,
            cross=self.cross / std[:, None],
        )


def ridge(
    moments: Moments, penalty: float
) -> tuple[Float[Tensor, "D E"], Float[Tensor, " D"], float]:
    """Solves argmin Σ ‖W x + b − y‖² + λ‖W‖², with λ = penalty · N · (mean variance of x).

    Returns:
        W, b, and the share of y's variance that is explained.
    """
    penalized = moments.gram.clone()
    penalized.diagonal().add_(penalty * penalized.diagonal().mean())
    weight = torch.linalg.solve(penalized, moments.cross).T
    residual = (
        moments.y_squares
        - 2 * (weight.T * moments.cross).sum()
        + (weight @ moments.gram * weight).sum()
    )
    total = moments.y_squares.clamp_min(torch.finfo(weight.dtype).tiny)
    return weight, moments.y_mean - weight @ moments.x_mean, (1 - residual / total).item()
