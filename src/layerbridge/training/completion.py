"""What the Trainer leaves out at the ends of a run and of an epoch, and when a run resumes."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, set_seed
from transformers.trainer_utils import IntervalStrategy


class Completion(TrainerCallback):
    """What the Trainer leaves out at the end of a run, and when one resumes."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Validates the last step too, which may be no multiple of ``eval_steps``."""
        if state.global_step >= state.max_steps and args.eval_strategy == IntervalStrategy.STEPS:
            control.should_evaluate = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Applies the current settings; the checkpoint's state has those of the first run.

        Each of several processes draws its own noise, and not that of another one's rows.
        """
        if args.process_index:
            set_seed(args.seed + args.process_index)
        state.compute_steps(args, state.max_steps)

    def on_epoch_begin(
        self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any
    ) -> None:
        """Tells the sampler which epoch begins.

        The Trainer tells the loader, and accelerate does not pass it on in the middle of an epoch
        if several processes share the batches.
        """
        part = train_dataloader
        while part is not None:
            if hasattr(part, "set_epoch"):
                part.set_epoch(int(state.epoch or 0))
            inner = getattr(part, "batch_sampler", None)
            inner = getattr(part, "sampler", None) if inner is None else inner
            part = None if inner is part else inner
