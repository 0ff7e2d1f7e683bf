"""Training arguments: transformers' own, with the paper's recipe as defaults."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments

from layerbridge.errors import TrainingError


@dataclass
class BridgeTrainingArguments(TrainingArguments):
    """transformers' ``TrainingArguments``, with the recipe of arXiv 2508.09091 as defaults.

    ``torch_compile`` compiles the language model's layers (``LanguageModel.compile_layers``).

    Args:
        fusion_learning_rate_scale: learning rate of the fusion's parameters, relative to the
            projection's. ``global-softmax`` multiplies its learned scale by 1e5, so that it needs
            far smaller steps than a matrix.
        clip_by_part: clip the gradients of the fusion, the projection and the boundary separately,
            each to ``max_grad_norm``. With one norm for all (the paper's way) the largest gradient,
            such as that of the scale of ``global-softmax``, shrinks the others' steps.
        tokens_per_batch: fill each batch up to this many tokens (rows × longest row, text and
            target together) and ignore ``per_device_train_batch_size``. A longer row gets a batch
            of its own.

    Raises:
        TrainingError: a value is out of range or contradicts another one.
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
        setting = f"tokens_per_batch={tokens!r}"
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
            raise TrainingError(
                f"{setting} is not a number of tokens",
                allowed="a positive integer",
                hint="for example --tokens-per-batch 4096",
            )
        conflict = None
        if self.train_sampling_strategy != "group_by_length":
            strategy = str(self.train_sampling_strategy)
            conflict = f"groups rows by length, but train_sampling_strategy is {strategy!r}"
        elif self.auto_find_batch_size:
            conflict = "cannot be combined with auto_find_batch_size"
        if conflict:
            raise TrainingError(f"{setting} {conflict}", hint="leave one of them out")
        if self.world_size > 1:
            raise TrainingError(
                f"{setting} supports only one process, but there are {self.world_size}",
                hint="leave it out, or train in one process",
            )

    def check_cached(self) -> None:
        """Checks that training can use cached hidden states.

        Raises:
            TrainingError: there are loader workers or several devices.
        """
        if self.dataloader_num_workers:
            # A forked worker can neither use CUDA tensors nor fill the main process's cache.
            raise TrainingError(
                f"dataloader_num_workers={self.dataloader_num_workers} cannot be combined with "
                "cached states: workers have nothing to tokenize and cannot fill the cache",
                hint="leave --dataloader-num-workers or the cache out",
            )
        devices = max(self.world_size, self.n_gpu)
        if devices > 1:
            raise TrainingError(
                f"cached states support only one device, but there are {devices}",
                hint="choose one, such as CUDA_VISIBLE_DEVICES=0, or leave the cache out",
            )
