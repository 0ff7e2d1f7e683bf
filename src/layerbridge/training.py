"""Training: transformers' Trainer on the bridge's parameters, with what prefix training asks for.

It knows the bridge, rows and arguments; not where rows come from or where results go.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import get_last_checkpoint

from layerbridge.collation import Collator, RowDataset
from layerbridge.errors import OutputError, TrainingError
from layerbridge.language_model import IGNORED
from layerbridge.model import LayerBridge
from layerbridge.tasks.task import Row

LOG = "training.json"


@dataclass
class BridgeTrainingArguments(TrainingArguments):
    """transformers' ``TrainingArguments``, with the paper's recipe (DESIGN §1) as defaults.

    Args:
        fusion_learning_rate_scale: learning rate of the fusion's parameters over the
            projection's. The learned scale of ``global-softmax`` is multiplied by 1e5: what is a
            fair step for a matrix throws it far off.
    """

    fusion_learning_rate_scale: float = field(default=1.0)
    learning_rate: float = field(default=3e-5)
    num_train_epochs: float = field(default=3.0)
    per_device_train_batch_size: int = field(default=8)
    lr_scheduler_type: str = field(default="cosine")
    warmup_steps: float = field(default=0.05)
    adam_beta1: float = field(default=0.8)
    adam_beta2: float = field(default=0.999)
    weight_decay: float = field(default=3e-7)
    max_grad_norm: float = field(default=1.0)
    seed: int = field(default=0)
    train_sampling_strategy: str = field(default="group_by_length")
    logging_steps: float = field(default=10)
    save_strategy: str = field(default="epoch")
    save_total_limit: int | None = field(default=1)
    report_to: str | list[str] | None = field(default="none")
    remove_unused_columns: bool = field(default=False)
    prediction_loss_only: bool = field(default=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fusion_learning_rate_scale < 0:
            raise TrainingError(
                f"fusion_learning_rate_scale={self.fusion_learning_rate_scale} is negative",
                allowed="0 (the fusion stays as it starts) or more",
            )


class BridgeTrainer(Trainer):
    """A Trainer of bridges: two learning rates, batches by length, one line a log on stderr.

    Args:
        model: the bridge.
        args: ``BridgeTrainingArguments``.
        train_rows: English rows.
        validation_rows: English rows for ``eval_strategy``.
        **arguments: as for ``Trainer``.
    """

    model: LayerBridge
    args: BridgeTrainingArguments

    def __init__(
        self,
        model: LayerBridge,
        args: BridgeTrainingArguments,
        train_rows: Sequence[Row],
        validation_rows: Sequence[Row] | None = None,
        **arguments: Any,
    ) -> None:
        if not train_rows:
            raise TrainingError("there are no rows to train on")
        super().__init__(
            model=model,
            args=args,
            data_collator=Collator(model),
            train_dataset=RowDataset(train_rows, model),
            eval_dataset=RowDataset(validation_rows, model) if validation_rows else None,
            **arguments,
        )
        self.label_names = ["labels"]
        # These two print to stdout, which is for results.
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over the bridge alone, the fusion at a learning rate of its own."""
        if getattr(self, "optimizer", None) is None:
            fusion = list(self.model.fusion.parameters())
            groups: list[dict[str, Any]] = [{"params": list(self.model.projection.parameters())}]
            if fusion:
                scale = self.args.fusion_learning_rate_scale
                groups.append({"params": fusion, "lr": self.args.learning_rate * scale})
            cls, arguments = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = cls(groups, **{**arguments, "weight_decay": self.args.weight_decay})
        return self.optimizer

    def training_step(self, *arguments: Any, **keywords: Any) -> Tensor:
        """One step; a loss that is not a number ends the run before it reaches the weights."""
        loss = super().training_step(*arguments, **keywords)
        if not torch.isfinite(loss):
            kept = get_last_checkpoint(self.args.output_dir)
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}",
                hint="lower --learning-rate or raise --warmup-steps, or train in float32; "
                + (
                    f"the last good checkpoint is {kept}"
                    if kept
                    else "no checkpoint was written yet"
                ),
            )
        return loss

    def get_batch_samples(self, *arguments: Any, **keywords: Any) -> tuple[list, Any]:
        """Batches of one step, and how many labels they have together.

        Counted here, because labels of prefix training are not shifted: the first one counts.
        """
        batches, items = super().get_batch_samples(*arguments, **keywords)
        if items is not None:
            items = sum((batch["labels"] != IGNORED).sum() for batch in batches)
            items = items.to(self.args.device)
        return batches, items

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        if self.args.train_sampling_strategy == "group_by_length":
            # The Trainer would look for lengths in a column; a RowDataset knows them already.
            return LengthGroupedSampler(
                self.args.train_batch_size * self.args.gradient_accumulation_steps,
                lengths=self.train_dataset.lengths,
            )
        return super()._get_train_sampler(train_dataset)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        # As the Trainer does it, without the pickled copy of the arguments.
        self.model.save_pretrained(output_dir or self.args.output_dir, state_dict=state_dict)


def prepare_output(folder: str | Path, *, overwrite: bool = False, resume: bool = False) -> Path:
    """The run's folder, ready to be written.

    Raises:
        OutputError: it holds something and neither ``overwrite`` nor ``resume`` was given, or
            there is nothing to resume from.
    """
    folder = Path(folder)
    if folder.is_file():
        raise OutputError(f"{str(folder)!r} is a file", allowed="a folder")
    filled = folder.is_dir() and any(folder.iterdir())
    if resume:
        if not filled or get_last_checkpoint(str(folder)) is None:
            raise OutputError(
                f"{str(folder)!r} has no checkpoint to resume from", hint="leave --resume out"
            )
    elif filled and not overwrite:
        raise OutputError(
            f"{str(folder)!r} is not empty",
            hint="--overwrite to replace what is in it, --resume to go on, or another folder",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_log(trainer: BridgeTrainer, folder: Path) -> None:
    """The run's log (loss, learning rate by step) as JSON."""
    text = json.dumps(trainer.state.log_history, indent=1)
    (folder / LOG).write_text(text + "\n", encoding="utf-8")


__all__ = [
    "BridgeTrainer",
    "BridgeTrainingArguments",
    "TrainerCallback",
    "prepare_output",
    "write_log",
]
