"""The optimizations of training speed, each of which can be turned off to measure its effect.

All are exact. Without any, layerbridge does the reference's work in its own code; with all of them
it is what ``layerbridge train`` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from layerbridge.models.bridge import LayerBridge
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.inference import option_ids
from layerbridge.models.language_model import IGNORED
from layerbridge.models.packing import pack
from layerbridge.models.state_cache import StateCache
from layerbridge.tasks import Row
from layerbridge.training.collation import pad_labels

OPTIMIZATIONS = {
    "collapsed": "token-softmax collapsed, not the block over all layers",
    "label-rows": "logits for the label rows, not for every position",
    "grouped": "batches of similar length, not in the order of the file",
    "cached": "the encoder's states computed once, not in every epoch",
}
ALL = frozenset(OPTIMIZATIONS)


class OptimizedStep:
    """The loss of a batch with some of the optimizations.

    Args:
        bridge: trained in place.
        optimizations: of ``OPTIMIZATIONS``. ``collapsed`` is a setting of the bridge
            (``implementation``), and ``grouped`` concerns the batches: neither matters here.
    """

    def __init__(self, bridge: LayerBridge, optimizations: frozenset[str] = ALL) -> None:
        self.bridge = bridge
        self.optimizations = optimizations
        self.cache = StateCache() if "cached" in optimizations else None

    def loss(self, rows: Sequence[Row]) -> Tensor:
        """Returns the mean cross-entropy over the target and EOS tokens."""
        language_model = self.bridge.language_model
        labels = pad_labels([option_ids(language_model, row.target) for row in rows])
        labels = labels.to(language_model.device)
        states = self.states([row.text for row in rows])
        if "label-rows" in self.optimizations:
            loss = self.bridge(hidden_states=states, labels=labels).loss
            assert loss is not None
            return loss
        packed = pack([*self.bridge.prefix(states), language_model.target(labels)])
        logits = language_model.model(
            inputs_embeds=packed.inputs_embeds,
            attention_mask=packed.attention_mask,
            position_ids=packed.position_ids,
            use_cache=False,
        ).logits.float()
        counts = (labels != IGNORED).sum(1, keepdim=True)
        width = logits.shape[1]
        columns = torch.arange(width, device=labels.device)
        targets = labels.new_full(logits.shape[:2], IGNORED)
        targets[columns >= width - counts] = labels[labels != IGNORED]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)

    def states(self, texts: Sequence[str]) -> HiddenStates:
        """Returns the encoder's states, cached or computed."""
        encoder = self.bridge.encoder
        encoder.cache = self.cache
        try:
            return self.bridge.encode(texts)
        finally:
            encoder.cache = None
