"""The average of a bridge's trained tensors over the last steps of a run.

Weights along a run average out the noise of single steps (Izmailov et al. 2018, arXiv 1803.05407),
and averages transfer better to other languages (Schmidt et al. 2023, arXiv 2305.16834). Checkpoints
hold the weights of their step, and the sum so far in a file of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from layerbridge.errors import ConfigError
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.tensor_file import read_tensors, write_tensors
from layerbridge.progress import say

FILE = "average.safetensors"


class AverageLast(TrainerCallback):
    """Averages the trained tensors after each of the last steps.

    Args:
        bridge: in training.
        share: of the run's steps, above 0 to 1; at least one step.
        folder: of the run, with its checkpoints.
    """

    def __init__(self, bridge: LayerBridge, share: float, folder: Path) -> None:
        self.bridge = bridge
        self.share = share
        self.folder = folder
        self.first = 1
        self.steps = 0
        self.mean: dict[str, Tensor] = {}  # in float64, where the device has it

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Starts the average, or continues that of the last checkpoint.

        Raises:
            ConfigError: a resumed run is in the middle of an average that began elsewhere.
        """
        total = state.max_steps
        self.first = total - max(1, int(self.share * total)) + 1
        self.steps, self.mean = 0, {}
        done = state.global_step
        if done < self.first:
            return
        file = Path(get_last_checkpoint(str(self.folder)) or self.folder) / FILE
        tensors, facts = (
            read_tensors(file, hint="train again") if file.is_file() else ({}, {"first": None})
        )
        if facts.get("first") != self.first or facts.get("steps") != done - self.first + 1:
            raise ConfigError(
                f"the run in {str(self.folder)!r} is at step {done}, and an average from step "
                f"{self.first} on would lack those before",
                hint="resume with the same number of steps and average_last, or a lower "
                "average_last",
            )
        device = self.bridge.language_model.device
        self.mean = {name: tensor.to(device) for name, tensor in tensors.items()}
        self.steps = int(facts["steps"])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Adds the tensors of this step."""
        if state.global_step < self.first:
            return
        self.steps += 1
        for name, tensor in self.bridge.trained_state_dict().items():
            value = tensor.detach()
            value = value.float() if value.is_mps else value.double()
            mean = self.mean.setdefault(name, torch.zeros_like(value))
            mean += (value - mean) / self.steps

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keeps the average so far with the checkpoint."""
        if self.steps and state.is_world_process_zero:
            facts = {"first": self.first, "steps": self.steps}
            folder = self.folder / f"checkpoint-{state.global_step}"
            if folder.is_dir():
                write_tensors(folder / FILE, self.mean, facts)

    def finish(self) -> None:
        """Puts the average into the bridge. It is said."""
        now = self.bridge.trained_state_dict()
        mean = {name: value.to(now[name]) for name, value in self.mean.items()}
        self.bridge.load_trained(mean, where="the average")
        say(f"the bridge is the average of the last {self.steps} steps")
