"""Watching the layer weights: a Trainer's callback that writes ``layer-weights.jsonl``.

It knows a bridge and a file. It draws no random number and keeps no gradient: a run that is watched
is the run that it would have been.
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
from layerbridge.training.weight_log import FILE, append, keep

# A picture of training has not room for more.
LINES = 200

# Where weights depend on the token: the mean over so many tokens of so many texts. Their states
# stay in memory for the run: with 24 layers of width 1024, 256 tokens are 25 MB.
TEXTS, TOKENS = 8, 256


class WeightWatch(TrainerCallback):
    """Logs a bridge's layer weights before the first step, every few steps, and after the last.

    A resumed run goes on with the file. A fusion without parameters has nothing to log, and leaves
    no file.

    Args:
        bridge: in training.
        texts: English; where weights depend on the token, those of the first few are averaged.
            The encoder reads them once.
        folder: of the run.
    """

    def __init__(self, bridge: LayerBridge, texts: Sequence[str], folder: Path) -> None:
        self.bridge = bridge
        self.texts = texts[:TEXTS]
        self.path = folder / FILE
        self.states: HiddenStates | None = None
        self.every = 1
        self.last = -1
        self.at_work = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Makes the file, or goes on with it."""
        learns = any(True for _ in self.bridge.fusion.parameters())
        self.at_work = learns and state.is_world_process_zero
        if not self.at_work:
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
        """One line every few steps."""
        if state.global_step % self.every == 0:
            self._log(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The last line."""
        self._log(state.global_step)

    def _log(self, step: int) -> None:
        if not self.at_work or step <= self.last:
            return
        assert self.states is not None
        try:
            weights = mean_weights(self.bridge, self.states).tolist()
            append(self.path, step, weights, first_layer=self.bridge.encoder.first_layer)
        except OSError as error:
            self._give_up(error)
        self.last = step

    def _give_up(self, error: OSError) -> None:
        # A picture is not worth a run.
        say(f"{self.path} cannot be written ({error.strerror or error}): no layer weights are kept")
        self.at_work = False


def probe(bridge: LayerBridge, texts: Sequence[str]) -> HiddenStates:
    """States to ask a fusion's weights for: some tokens of the texts, side by side."""
    if isinstance(bridge.fusion, GlobalSoftmax):
        # Its weights are the same for every token: no text is worth reading.
        nothing = torch.zeros(bridge.fusion.num_layers, 1, 1, bridge.fusion.width)
        return HiddenStates(nothing, torch.ones(1, 1)).to(bridge.language_model.device)
    states = bridge.encode(texts)
    tokens = states.stacked[:, states.mask][:, :TOKENS].clone()
    return HiddenStates(tokens[:, None], torch.ones(1, tokens.shape[1])).to(
        bridge.language_model.device
    )


@torch.no_grad()
def mean_weights(bridge: LayerBridge, states: HiddenStates) -> Float[Tensor, " L"]:
    """The fusion's weights over all tokens of the states, as it would weigh them in an answer."""
    with eval_mode(bridge.fusion):
        return bridge.fusion.weights(states).flatten(0, 1).mean(0).float().cpu()
