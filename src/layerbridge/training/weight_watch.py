"""A Trainer's callback that writes the layer weights to ``layer-weights.jsonl``.

It draws no random numbers and keeps no gradients, so that it does not change the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import TrainerCallback

from layerbridge.models.bridge import LayerBridge
from layerbridge.models.eval_mode import eval_mode
from layerbridge.models.fusion.global_softmax import GlobalSoftmax
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.progress import say
from layerbridge.training.tracking import send_weights
from layerbridge.training.weight_log import FILE, append, keep

# Upper limit for the lines of a log: a plot cannot show more.
LINES = 200

# Weights that depend on the token are averaged over this many tokens of the first texts. Their
# states stay in memory: with 24 layers of width 1024, 256 tokens take 25 MB.
TEXTS, TOKENS = 8, 256


class WeightWatch(TrainerCallback):
    """Logs a bridge's layer weights before the first step, every few steps, and after the last.

    A resumed run continues the file. A fusion without parameters writes none.

    Args:
        bridge: in training.
        texts: English; weights that depend on the token are averaged over the first few.
        folder: of the run.
        trackers: callbacks of the Trainer; those of ``report_to`` get the weights, too.
    """

    def __init__(
        self,
        bridge: LayerBridge,
        texts: Sequence[str],
        folder: Path,
        trackers: Sequence[TrainerCallback] = (),
    ) -> None:
        self.bridge = bridge
        self.trackers = trackers
        self.texts = texts[:TEXTS]
        self.path = folder / FILE
        self.states: HiddenStates | None = None  # None while nothing is logged
        self.every = 1
        self.last = -1
        self.weights: list[float] = []  # of the last step that was logged

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Starts the file, or continues it."""
        learns = any(True for _ in self.bridge.fusion.parameters())
        self.states = None
        if not learns or not state.is_world_process_zero:
            return
        self.every = max(1, math.ceil(state.max_steps / (LINES - 2)))
        self.last = -1
        self.states = probe(self.bridge, self.texts)
        try:
            if keep(self.path, state.global_step):
                self.last = state.global_step
        except OSError as error:
            self._give_up(error)
        self._log(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Logs a line every few steps."""
        # The last one as well: a tracker may close when training ends.
        if state.global_step % self.every == 0 or state.global_step >= state.max_steps:
            self._log(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Logs the last line."""
        self._log(state.global_step)

    def _log(self, step: int) -> None:
        if self.states is None or step <= self.last:
            return
        self.weights = mean_weights(self.bridge, self.states).tolist()
        try:
            append(self.path, step, self.weights, first_layer=self.bridge.encoder.first_layer)
        except OSError as error:
            self._give_up(error)
        self.last = step
        first = self.bridge.encoder.first_layer
        send_weights(self.trackers, step, self.weights, first_layer=first)

    def _give_up(self, error: OSError) -> None:
        # A plot is not worth a run.
        say(f"cannot write {self.path} ({error.strerror or error}): layer weights are not logged")
        self.states = None


def probe(bridge: LayerBridge, texts: Sequence[str]) -> HiddenStates:
    """Returns the states of some tokens of the texts, as one long text."""
    if isinstance(bridge.fusion, GlobalSoftmax):
        # Its weights are the same for every token.
        nothing = torch.zeros(bridge.fusion.num_layers, 1, 1, bridge.fusion.width)
        return HiddenStates(nothing, torch.ones(1, 1)).to(bridge.language_model.device)
    states = bridge.encode(texts)
    tokens = states.stacked[:, states.mask][:, :TOKENS].clone()
    return HiddenStates(tokens[:, None], torch.ones(1, tokens.shape[1])).to(
        bridge.language_model.device
    )


@torch.no_grad()
def mean_weights(bridge: LayerBridge, states: HiddenStates) -> Float[Tensor, " L"]:
    """Returns the fusion's weights, averaged over all tokens of the states, as in inference."""
    with eval_mode(bridge.fusion):
        return bridge.fusion.weights(states).flatten(0, 1).mean(0).float().cpu()
