"""Training: transformers' Trainer on the bridge's parameters, with what prefix training asks for.

It knows the bridge, rows and arguments; not where rows come from or where results go.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint

from layerbridge.batching import GroupedSampler, TokenBatches
from layerbridge.checkpoint import read_checkpoint, read_config
from layerbridge.collation import Collator, RowDataset
from layerbridge.errors import CheckpointError, OutputError, TrainingError
from layerbridge.model import LayerBridge
from layerbridge.tasks.task import Row
from layerbridge.weight_log import FILE as WEIGHT_LOG

LOG = "training.json"


@dataclass
class BridgeTrainingArguments(TrainingArguments):
    """transformers' ``TrainingArguments``, with the paper's recipe (DESIGN §1) as defaults.

    Args:
        fusion_learning_rate_scale: learning rate of the fusion's parameters over the
            projection's. The learned scale of ``global-softmax`` is multiplied by 1e5: what is a
            fair step for a matrix throws it far off.
        clip_by_part: clip the gradients of the fusion, the projection and the boundary each by its
            own norm, to ``max_grad_norm``. By the norm of all together (the paper's) the one with
            the largest gradient, the learned scale of ``global-softmax`` for example, decides how
            little of a step the others get (docs/decisions/0002-projection-start.md).
        tokens_per_batch: fill a batch up to so many tokens (rows × longest row, text and target
            together) instead of to ``per_device_train_batch_size``, which is then not looked at.
            A row that is longer has a batch to itself.

    ``torch_compile`` compiles the language model's layers (``LanguageModel.compile_layers``).
    """

    fusion_learning_rate_scale: float = field(default=1.0)
    clip_by_part: bool = field(default=False)
    tokens_per_batch: int | None = field(default=None)
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
    # A batch is a few token ids; or cached states, which may be on a GPU and cannot be pinned.
    dataloader_pin_memory: bool = field(default=False)
    prediction_loss_only: bool = field(default=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fusion_learning_rate_scale < 0:
            raise TrainingError(
                f"fusion_learning_rate_scale={self.fusion_learning_rate_scale} is negative",
                allowed="0 (the fusion stays as it starts) or more",
            )
        if self.tokens_per_batch is not None:
            self._check_tokens_per_batch(self.tokens_per_batch)

    def _check_tokens_per_batch(self, tokens: object) -> None:
        given = f"tokens_per_batch={tokens!r}"
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
            raise TrainingError(
                f"{given} is no number of tokens",
                allowed="a whole number from 1",
                hint="--tokens-per-batch 4096, for example",
            )
        if self.train_sampling_strategy != "group_by_length":
            raise TrainingError(
                f"{given} makes batches by length, and train_sampling_strategy is "
                f"{str(self.train_sampling_strategy)!r}",
                hint="leave one of them out",
            )
        if self.auto_find_batch_size:
            raise TrainingError(
                f"{given} leaves auto_find_batch_size nothing to find",
                hint="leave one of them out",
            )
        if self.world_size > 1:
            raise TrainingError(
                f"{given} is for one process, and there are {self.world_size}",
                hint="leave it out, or train in one process",
            )

    def check_cached(self) -> None:
        """Whether cached states can be trained on with these.

        Raises:
            TrainingError: they go to loader workers or to several devices.
        """
        if self.dataloader_num_workers:
            # Forked off a process that uses a GPU, a worker cannot touch states that are on it;
            # and what it reads into its own copy of a cache nobody else sees.
            raise TrainingError(
                f"dataloader_num_workers={self.dataloader_num_workers} does not go with cached "
                "states: there is nothing to tokenise, and a worker cannot fill the cache",
                hint="leave --dataloader-num-workers or the cache out",
            )
        devices = max(self.world_size, self.n_gpu)
        if devices > 1:
            raise TrainingError(
                f"cached states go to one device, and there are {devices}",
                hint="choose one, with CUDA_VISIBLE_DEVICES=0 for example, or leave the cache out",
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
        if model.encoder.cache is not None:
            args.check_cached()
        if args.torch_compile and not model.language_model.compiled:
            settings = {"backend": args.torch_compile_backend, "mode": args.torch_compile_mode}
            model.language_model.compile_layers(**settings)
        # By layers it takes seconds; the Trainer would compile the whole bridge, batch by batch.
        args.torch_compile = False
        args.torch_compile_backend = args.torch_compile_mode = None
        super().__init__(
            model=model,
            args=args,
            data_collator=Collator(model),
            train_dataset=RowDataset(train_rows, model),
            eval_dataset=RowDataset(validation_rows, model) if validation_rows else None,
            **arguments,
        )
        self.label_names = ["labels"]
        # The bridge's forward divides by the labels of the whole step, over accumulated batches.
        self.model_accepts_loss_kwargs = True
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
        """One step; what is not a number ends the run before it reaches the weights."""
        loss = super().training_step(*arguments, **keywords)
        if not torch.isfinite(loss):
            raise self._not_a_number(f"the loss is {loss.item()}")
        # With float16 a gradient may overflow: the loss scaler sees it and skips the step.
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if gradients and not self.args.fp16:
            largest = torch.stack([gradient.abs().max() for gradient in gradients]).max()
            if not torch.isfinite(largest):
                raise self._not_a_number(f"a gradient is {largest.item()}")
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        if not self.args.clip_by_part:
            return super()._clip_grad_norm(model)
        self.accelerator.unscale_gradients()
        projection = self.model.projection
        parts = [list(self.model.fusion.parameters()), list(projection.linear.parameters())]
        if projection.boundary is not None:
            parts.append([projection.boundary])
        norms = [nn.utils.clip_grad_norm_(part, self.args.max_grad_norm) for part in parts if part]
        return torch.stack(norms).norm()

    def _not_a_number(self, problem: str) -> TrainingError:
        kept = get_last_checkpoint(self.args.output_dir)
        kept = f"the last good checkpoint is {kept}" if kept else "no checkpoint was written yet"
        return TrainingError(
            f"{problem} at step {self.state.global_step + 1}",
            hint=f"lower --learning-rate or raise --warmup-steps, or train in float32; {kept}",
        )

    def get_train_dataloader(self) -> DataLoader:
        """Batches of a number of rows, or of a number of tokens."""
        args = self.args
        if args.tokens_per_batch is None:
            return super().get_train_dataloader()
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=TokenBatches(
                self.train_dataset.lengths, args.tokens_per_batch, seed=self._order_seed()
            ),
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            prefetch_factor=args.dataloader_prefetch_factor,
            in_order=args.dataloader_in_order,
        )
        return self.accelerator.prepare(loader)

    def get_total_train_batch_size(self, args: BridgeTrainingArguments) -> int:
        """Rows a step; of batches by tokens the mean, which is for the log's speeds alone."""
        if args.tokens_per_batch is None:
            return super().get_total_train_batch_size(args)
        batches = len(TokenBatches(self.train_dataset.lengths, args.tokens_per_batch, seed=0))
        rows = len(self.train_dataset) * args.gradient_accumulation_steps
        return max(1, round(rows / batches))

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        if self.args.train_sampling_strategy == "group_by_length":
            # The Trainer would look for lengths in a column; a RowDataset knows them already.
            return GroupedSampler(
                self.args.train_batch_size * self.args.gradient_accumulation_steps,
                lengths=self.train_dataset.lengths,
                seed=self._order_seed(),
            )
        return super()._get_train_sampler(train_dataset)

    def _order_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler:
        # The Trainer would group these too, by a column that is not there.
        return SequentialSampler(eval_dataset)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        # As the Trainer does it, without the pickled copy of the arguments.
        self.model.save_pretrained(output_dir or self.args.output_dir, state_dict=state_dict)


def check_output(folder: str | Path, *, overwrite: bool = False, resume: bool = False) -> Path:
    """Whether a run may go into ``folder``. Nothing is written yet.

    Raises:
        OutputError: it cannot be written, it holds something and neither ``overwrite`` nor
            ``resume`` was given, or there is nothing to resume from.
    """
    folder = Path(folder)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise OutputError(f"{str(there)!r} is a file", allowed="a folder")
    if not os.access(there, os.W_OK):
        raise OutputError(f"{str(there)!r} cannot be written", hint="choose another folder")
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
    return folder


def prepare_output(folder: str | Path, *, overwrite: bool = False, resume: bool = False) -> Path:
    """The run's folder, ready to be written: made, and free of an earlier run's numbers.

    With ``overwrite`` its checkpoints, result files and log of weights go; other files stay.

    Raises:
        OutputError: as ``check_output``.
    """
    folder = check_output(folder, overwrite=overwrite, resume=resume)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite and not resume:
            # Resumed from, or told of as the last good one, they would pass for this run's.
            for stale in folder.glob("checkpoint-[0-9]*"):
                shutil.rmtree(stale)
            for stale in (*folder.glob("results/*.json"), *folder.glob(WEIGHT_LOG)):
                stale.unlink()
    except OSError as error:
        raise OutputError(
            f"{str(folder)!r} cannot be written ({error.strerror or error})",
            hint="choose another folder",
        ) from None
    return folder


def check_resumable(bridge: LayerBridge, folder: Path) -> None:
    """Whether ``bridge`` can go on from the last checkpoint in ``folder``.

    Raises:
        CheckpointError: the checkpoint is damaged, or of another fusion or other backbones.
    """
    last = Path(get_last_checkpoint(str(folder)) or folder)
    config, _ = read_config(str(last))
    for what in ("encoder", "language_model"):
        name = f"{what}_fingerprint"
        known, own = getattr(config, name), getattr(bridge.config, name)
        if None not in (known, own) and known != own:
            raise CheckpointError(
                f"{str(last)!r} was trained with another {what.replace('_', ' ')}: its weights are "
                f"{known[:12]}",
                allowed=f"weights {own[:12]}",
                hint="resume with the models it was trained with",
            )
    if config.fusion != bridge.config.fusion:
        raise CheckpointError(
            f"{str(last)!r} is a bridge of fusion {config.fusion!r}", allowed=bridge.config.fusion
        )
    bridge.load_trained(read_checkpoint(last), where=str(last))
    for name, whole in _STATE_FILES.items():
        if not whole(last / name):
            raise CheckpointError(
                f"{str(last / name)!r} is missing or cut short",
                hint=f"remove {last} and resume from the one before it, or train again",
            )


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


# What the Trainer resumes from beside the bridge's tensors; torch's files are zip archives, whose
# directory is at their end.
_STATE_FILES = {
    "trainer_state.json": _is_json,
    "optimizer.pt": zipfile.is_zipfile,
    "scheduler.pt": zipfile.is_zipfile,
}


def write_log(trainer: BridgeTrainer, folder: Path) -> None:
    """The run's log (loss, learning rate by step) as JSON."""
    text = json.dumps(trainer.state.log_history, indent=1)
    (folder / LOG).write_text(text + "\n", encoding="utf-8")


__all__ = [
    "BridgeTrainer",
    "BridgeTrainingArguments",
    "TrainerCallback",
    "check_output",
    "check_resumable",
    "prepare_output",
    "write_log",
]
