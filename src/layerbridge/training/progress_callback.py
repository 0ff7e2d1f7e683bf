"""The progress of a training, on stderr."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from layerbridge.progress import Meter

# What is logged → as it is shown.
_SHOWN = {
    "loss": "loss",
    "eval_loss": "validation loss",
    "eval_accuracy": "validation accuracy",
}


class ProgressCallback(TrainerCallback):
    """Updates a meter at every step, with what was logged last."""

    def __init__(self, bar: Meter) -> None:
        self.bar = bar
        self.note = ""
        self.shown: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Remembers what is shown."""
        logs = logs or {}
        self.shown |= {_SHOWN[name]: float(logs[name]) for name in _SHOWN if name in logs}
        self.note = ", ".join(f"{name} {value:.3f}" for name, value in self.shown.items())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Shows the step."""
        # The last step is left to on_train_end, when its loss is logged.
        if state.global_step < state.max_steps:
            self.bar.update(state.global_step, state.max_steps, self.note)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Shows the last step."""
        self.bar.update(state.global_step, state.max_steps, self.note)
