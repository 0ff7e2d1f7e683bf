"""What vLLM's workers can do of ours; vLLM mixes it into its own class."""

from __future__ import annotations

from typing import Any

import torch


class BridgeWorker:
    """Calls of the encoder that are no part of a completion."""

    def layer_weights(self: Any, ids: list[int]) -> list[list[float]] | None:
        """Returns the weight of each layer in each token of a text; None without the encoder.

        Args:
            ids: the encoder's token ids of the text.
        """
        prompts = self.get_model().bridge
        if prompts is None:
            return None
        weights: list[list[float]] = prompts.layer_weights(torch.tensor(ids)).tolist()
        return weights
