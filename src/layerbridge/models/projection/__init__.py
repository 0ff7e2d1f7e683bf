"""Projections: fused encoder states → soft tokens of the language model."""

from layerbridge.models.projection.linear import Projection
from layerbridge.models.projection.registry import PROJECTIONS, build, names

__all__ = ["PROJECTIONS", "Projection", "build", "names"]
