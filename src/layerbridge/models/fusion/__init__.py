"""Fusion: the hidden states of all encoder layers, mixed into one state per token."""

from layerbridge.models.fusion.registry import STRATEGIES, build, names, register_fusion
from layerbridge.models.fusion.strategy import Fusion

__all__ = ["STRATEGIES", "Fusion", "build", "names", "register_fusion"]
