"""transformers' Trainer on a bridge's parameters."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.data_loader import prepare_data_loader
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import BatchSampler, DataLoader, Sampler, SequentialSampler
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import (
    PREFIX_CHECKPOINT_DIR,
    EvalLoopOutput,
    IntervalStrategy,
    TrainOutput,
    get_last_checkpoint,
)

from layerbridge.errors import TrainingError
from layerbridge.models.bridge import LayerBridge
from layerbridge.tasks.task import Row
from layerbridge.training.arguments import BridgeTrainingArguments, one_line
from layerbridge.training.batching import GroupedSampler, ProcessBatches, TokenBatches
from layerbridge.training.collation import Collator, RowDataset
from layerbridge.training.completion import Completion
from layerbridge.training.interrupt import Interruption
from layerbridge.training.schedule import steps
from layerbridge.training.sharded import check_sharded
from layerbridge.training.validation import label_metrics, mean_loss

_BACKBONES = ("encoder.", "language_model.")


class BridgeTrainer(Trainer):
    """A Trainer of bridges: two learning rates, batches by length, nothing on stdout.

    Args:
        model: the bridge.
        args: ``BridgeTrainingArguments``.
        train_rows: English rows.
        validation_rows: English rows for ``eval_strategy``.
        **arguments: passed on to ``Trainer``.

    Raises:
        TrainingError: the rows fill no batch, or the arguments do not allow cached states.
        ConfigError: the arguments do not fit this machine.
    """

    model: LayerBridge
    args: BridgeTrainingArguments
    # Once it has noted a signal, the run ends after the current step.
    interruption: Interruption | None = None
    _saved_step: int | None = None
    _tr_loss: Tensor

    def __init__(
        self,
        model: LayerBridge,
        args: BridgeTrainingArguments,
        train_rows: Sequence[Row],
        validation_rows: Sequence[Row] | None = None,
        **arguments: Any,
    ) -> None:
        _check_rows(len(train_rows), args)
        if model.encoder.cache is not None:
            args.check_cached()
        if model.language_model.is_sharded:
            check_sharded(model.language_model, args)
        # accelerate would leave a bridge that was trained before as it is: in that run's precision.
        for left in ("_is_accelerate_prepared", "_original_forward", "forward"):
            model.__dict__.pop(left, None)
        model.language_model.check_gradients()
        with one_line("invalid training arguments"):
            if args.torch_compile and not model.language_model.compiled:
                settings = {"backend": args.torch_compile_backend, "mode": args.torch_compile_mode}
                model.language_model.compile_layers(**settings)
            # Also undone: bridges may share the language model.
            model.language_model.checkpoint_layers(args.checkpoints_layers)
            # The Trainer's way only works in training mode.
            args.__dict__.update(gradient_checkpointing=False, activation_checkpointing=False)
            # Compiling layers takes seconds; the Trainer would compile the bridge for each shape of
            # a batch.
            args.torch_compile = False
            args.torch_compile_backend = args.torch_compile_mode = None
            if args.num_train_epochs is None:
                if args.max_steps <= 0:
                    args.max_steps = steps(len(train_rows))
                args.num_train_epochs = 1.0  # max_steps decides, but the Trainer reads it
            super().__init__(
                model=model,
                args=args,
                data_collator=Collator(model),
                train_dataset=RowDataset(
                    train_rows, model, exact=args.tokens_per_batch is not None
                ),
                eval_dataset=RowDataset(validation_rows, model) if validation_rows else None,
                **arguments,
            )
        if args.world_size > 1:
            # It would broadcast the backbones, which are the same in every process.
            tensors = chain(
                model.named_parameters(remove_duplicate=False),
                model.named_buffers(remove_duplicate=False),
            )
            frozen = [name for name, _ in tensors if name.startswith(_BACKBONES)]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, frozen)
        model.config.training_seed = args.seed
        self.label_names = ["labels"]
        # The bridge's forward divides by the number of labels of all accumulated batches.
        self.model_accepts_loss_kwargs = True
        # These two print to stdout, which is for results.
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        self.add_callback(Completion())

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Creates the optimizer of the projection and, at its own learning rate, the fusion."""
        if getattr(self, "optimizer", None) is None:
            fusion = list(self.model.fusion.parameters())
            groups: list[dict[str, Any]] = [{"params": list(self.model.projection.parameters())}]
            if fusion:
                scale = self.args.fusion_learning_rate_scale
                scale = self.model.fusion.learning_rate_scale if scale is None else scale
                groups.append({"params": fusion, "lr": self.args.learning_rate * scale})
            cls, arguments = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = cls(groups, **{**arguments, "weight_decay": self.args.weight_decay})
        return self.optimizer

    def train(self, *arguments: Any, **keywords: Any) -> TrainOutput:
        """Trains.

        Raises:
            TrainingError: there was no step of the optimizer, or what a step raises.
        """
        output = super().train(*arguments, **keywords)
        # The schedule does not move on when the loss scaler of float16 skips a step.
        schedule = self.lr_scheduler
        skipped = isinstance(schedule, LambdaLR) and schedule.last_epoch == 0
        if output.global_step == 0 or skipped:
            raise TrainingError(
                "the run ended without a step of the optimizer: the bridge is untrained",
                hint="more rows, or a smaller batch",
            )
        return output

    @property
    def total_steps(self) -> int:
        """The steps of the whole run, as the Trainer counts them."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        batches = len(self.get_train_dataloader())
        steps = math.ceil(batches / self.args.gradient_accumulation_steps)
        return math.ceil(self.args.num_train_epochs * steps)

    def evaluation_loop(
        self, dataloader: DataLoader, *_: Any, metric_key_prefix: str = "eval", **__: Any
    ) -> EvalLoopOutput:
        """Computes the loss and, of a bridge with options, accuracy and median ``any_option``.

        The Trainer's own would let rows count twice if processes have them in batches of unequal
        size.
        """
        bridge, dataset = self.model, cast(RowDataset, dataloader.dataset)
        bridge.eval()
        self.callback_handler.eval_dataloader = dataloader
        options = set(bridge.config.options or ())
        if all(row.target in options for row in dataset.rows):
            size = self.args.per_device_eval_batch_size
            metrics = label_metrics(bridge, dataset.rows, size)
        else:
            if not self.accelerator._models:  # outside a training: in the precision of one
                self.accelerator.prepare_model(bridge, evaluation_mode=True)
            metrics = {"loss": mean_loss(bridge, map(self._prepare_inputs, dataloader))}
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return EvalLoopOutput(None, None, named, len(dataset.rows))

    def evaluate(self, *arguments: Any, **keywords: Any) -> dict[str, float]:
        """Computes loss and accuracy of the validation rows; has no effect on later steps.

        Raises:
            TrainingError: it is not finite.
        """
        # A data loader draws from the generator that dropout draws from.
        with torch.random.fork_rng(devices=[]):
            metrics = super().evaluate(*arguments, **keywords)
        loss = metrics.get("eval_loss", 0.0)
        if not math.isfinite(loss):
            raise self._not_finite(f"the validation loss is {loss}", self.state.global_step)
        return metrics

    def training_step(self, *arguments: Any, **keywords: Any) -> Tensor:
        """Does one step.

        Raises:
            TrainingError: the loss or a gradient is not finite; the weights are unchanged.
        """
        loss = super().training_step(*arguments, **keywords)
        if not torch.isfinite(loss):
            raise self._not_finite(f"the loss is {loss.item()}", self.state.global_step + 1)
        # A float16 gradient may overflow: the loss scaler skips that step.
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if gradients and not self.args.fp16:
            largest = torch.stack([gradient.abs().max() for gradient in gradients]).max()
            if not torch.isfinite(largest):
                problem = f"a gradient is {largest.item()}"
                raise self._not_finite(problem, self.state.global_step + 1)
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        if not self.args.clip_by_part:
            return super()._clip_grad_norm(model)
        self.accelerator.unscale_gradients()
        projection = self.model.projection
        maps = [p for name, p in projection.named_parameters() if name != "boundary"]
        parts = [list(self.model.fusion.parameters()), maps]
        if projection.boundary is not None:
            parts.append([projection.boundary])
        norms = [nn.utils.clip_grad_norm_(part, self.args.max_grad_norm) for part in parts if part]
        return torch.stack(norms).norm()

    def _maybe_log_save_evaluate(
        self, loss: Tensor, norm: Any, model: nn.Module, trial: Any, *rest: Any, **named: Any
    ) -> None:
        # The Trainer gets here after each step, and again at the end of an epoch.
        is_due = self.interruption is not None and self.interruption.is_due(
            self.state, self.accelerator
        )
        if is_due and self.args.logging_strategy != IntervalStrategy.NO:
            self.control.should_log = True  # a resumed run's losses begin with its own first step
        super()._maybe_log_save_evaluate(loss, norm, model, trial, *rest, **named)
        if is_due:
            assert self.interruption is not None
            if self._saved_step != self.state.global_step or self.args.save_only_model:
                # With the optimizer's state, whatever the run's own checkpoints have.
                self.args.save_only_model = False
                self._save_checkpoint(model, trial)
            raise self.interruption.error(self.state, self._checkpoint)

    def _finalize_training(self, *arguments: Any) -> TrainOutput:
        # What was not logged yet is the loss of this process's rows.
        self._tr_loss = self.accelerator.reduce(self._tr_loss, reduction="mean")
        return super()._finalize_training(*arguments)

    def _save_rng_state(self, output_dir: str) -> None:
        # Each process writes its own; none is missing once the rest is written and an older
        # checkpoint is removed.
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        try:
            super()._save_checkpoint(model, trial)
        except BaseException:
            # The run could not continue from half of a checkpoint; from the one before, it can.
            if self.args.should_save:
                shutil.rmtree(self._checkpoint, ignore_errors=True)
            raise
        self._saved_step = self.state.global_step

    @property
    def _checkpoint(self) -> Path:
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        return Path(self.args.output_dir, name)

    def _not_finite(self, problem: str, step: int) -> TrainingError:
        last = get_last_checkpoint(self.args.output_dir)
        state = f"the last good checkpoint is {last}" if last else "no checkpoint was written yet"
        return TrainingError(
            f"{problem} at step {step}",
            hint=f"lower --learning-rate or raise --warmup-steps, or train in float32; {state}",
        )

    def get_train_dataloader(self) -> DataLoader:
        """Returns batches of a fixed number of rows, or of tokens."""
        args, dataset = self.args, self.train_dataset
        if args.tokens_per_batch is not None:
            tokens = TokenBatches(dataset.lengths, args.tokens_per_batch, seed=self._order_seed())
            return self._loader(dataset, tokens)
        sampler = self._get_train_sampler(dataset)
        assert sampler is not None  # the rows are no stream
        batches = BatchSampler(sampler, self._train_batch_size, args.dataloader_drop_last)
        return self._loader(dataset, batches, drop_last=args.dataloader_drop_last)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Returns batches of all validation rows, also with ``dataloader_drop_last``."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        sampler = SequentialSampler(dataset)
        return self._loader(dataset, BatchSampler(sampler, self.args.eval_batch_size, False))

    def _loader(
        self, dataset: RowDataset, batches: BatchSampler | TokenBatches, *, drop_last: bool = False
    ) -> DataLoader:
        """Returns this process's share of batches, on its device."""
        args = self.args
        if args.world_size > 1:
            batches = ProcessBatches(
                batches,
                processes=args.world_size,
                process=args.process_index,
                drop_last=drop_last,
            )
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            prefetch_factor=args.dataloader_prefetch_factor,
            in_order=args.dataloader_in_order,
        )
        # The batches are shared among the processes already.
        return prepare_data_loader(
            loader,
            device=self.accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            use_seedable_sampler=True,
            data_seed=self._order_seed(),
        )

    def get_total_train_batch_size(self, args: BridgeTrainingArguments) -> int:
        """Returns the rows per step: of batches by tokens the mean, for the logged speeds."""
        if args.tokens_per_batch is None:
            return super().get_total_train_batch_size(args)
        batches = len(TokenBatches(self.train_dataset.lengths, args.tokens_per_batch, seed=0))
        rows = len(self.train_dataset) * args.batches_per_step
        return max(1, round(rows / batches))

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        if self.args.train_sampling_strategy == "group_by_length":
            # The Trainer would read lengths from a column.
            return GroupedSampler(
                self.args.rows_per_step,
                lengths=self.train_dataset.lengths,
                seed=self._order_seed(),
            )
        return super()._get_train_sampler(train_dataset)

    def _order_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        # Every process gets here. Without the Trainer's pickled copy of the arguments.
        if not all(tensor.isfinite().all() for tensor in self.model.trained_state_dict().values()):
            raise self._not_finite("a weight is not finite", self.state.global_step)
        if self.args.should_save:
            self.model.save_pretrained(output_dir or self.args.output_dir, state_dict=state_dict)


def _check_rows(rows: int, args: BridgeTrainingArguments) -> None:
    if not rows:
        raise TrainingError("there are no rows to train on")
    size = args.train_batch_size
    if args.dataloader_drop_last and rows // size < args.world_size:
        shared = f" for each of {args.world_size} processes" if args.world_size > 1 else ""
        raise TrainingError(
            f"{rows} rows do not fill a batch of {size}{shared}, and dataloader_drop_last drops "
            "the rest",
            hint=f"--per-device-train-batch-size {max(1, rows // args.world_size)} or smaller, or "
            "leave --dataloader-drop-last out",
        )
