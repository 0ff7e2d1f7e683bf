"""What a bridge's forward pass returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class BridgeOutput(ModelOutput):
    """Output of ``LayerBridge.forward``.

    Attributes:
        loss: mean cross-entropy (nats) over the target and EOS tokens; None without labels.
        logits: [n, V], one row per label, in label order; without labels [B, V], of the first
            token of the answer.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
