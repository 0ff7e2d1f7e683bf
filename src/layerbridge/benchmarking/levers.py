"""The levers of training speed, each of which can be left out, to see what it is worth.

All are exact. With none of them layerbridge does the reference's work in its own words; with all of
them it is what ``layerbridge train`` does.
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

LEVERS = {
    "collapsed": "token-softmax collapsed, not the block over all layers",
    "label-rows": "logits for the label rows, not for every position",
    "grouped": "batches of one length, not in the order of the file",
    "cached": "the encoder's states read once, not in every epoch",
}
ALL = frozenset(LEVERS)


def batches(rows: Sequence[Row], size: int, lengths: Sequence[int], *, grouped: bool) -> list:
    """The rows in batches: in their order, or of about one length."""
    order = sorted(range(len(rows)), key=lengths.__getitem__) if grouped else range(len(rows))
    places = list(order)
    return [[rows[i] for i in places[at : at + size]] for at in range(0, len(places), size)]


def spread(batches: Sequence[list[Row]], count: int) -> list[list[Row]]:
    """``count`` of the batches, or all there are, evenly spread from the first to the last."""
    count = min(count, len(batches))
    return [batches[(2 * place + 1) * len(batches) // (2 * count)] for place in range(count)]


class LeverStep:
    """The loss of a batch with some of the levers.

    Args:
        bridge: trained in place.
        levers: names of ``LEVERS``; ``collapsed`` is the bridge's own affair (its
            ``implementation``), and ``grouped`` the batches'.
    """

    def __init__(self, bridge: LayerBridge, levers: frozenset[str] = ALL) -> None:
        self.bridge = bridge
        self.levers = levers
        self.cache = StateCache() if "cached" in levers else None

    def loss(self, rows: Sequence[Row]) -> Tensor:
        """Mean cross-entropy over the target and EOS tokens."""
        language_model = self.bridge.language_model
        labels = pad_labels([option_ids(language_model, row.target) for row in rows])
        labels = labels.to(language_model.device)
        states = self.states([row.text for row in rows])
        if "label-rows" in self.levers:
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
        """Of the encoder, or read before."""
        encoder = self.bridge.encoder
        encoder.cache = self.cache
        try:
            return self.bridge.encode(texts)
        finally:
            encoder.cache = None
