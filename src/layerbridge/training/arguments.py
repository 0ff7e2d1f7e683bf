"""Training arguments: transformers' own, with the paper's recipe as defaults."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments

from layerbridge.errors import TrainingError


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
