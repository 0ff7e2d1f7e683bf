"""A run's config as vLLM asks it: the sizes of the language model, and how requests are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import PreTrainedConfig
from vllm.model_executor.models.config import VerifyAndUpdateConfig
from vllm.platforms import current_platform

from layerbridge.models.backbone import LoadOptions
from layerbridge.models.backbone_pair import backbone_source
from layerbridge.models.config import BridgeConfig
from layerbridge.models.language_model import causal_config
from layerbridge.serving.plugin import ARCHITECTURE, MODE

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig

WORKER = "layerbridge.serving.plugin.worker.BridgeWorker"


class ServedConfig(BridgeConfig):
    """A bridge's config with that of its language model, of which vLLM asks the sizes.

    Attributes:
        text_config: of the language model; None if no language model is named.

    Raises:
        BackboneError: the language model cannot be found.
    """

    text_config: PreTrainedConfig | dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.architectures = [ARCHITECTURE]
        if self.text_config is None and self.language_model is not None:
            source = backbone_source(self, "language_model")
            self.text_config = causal_config(source, LoadOptions())

    def get_text_config(
        self, decoder: bool | None = None, encoder: bool | None = None
    ) -> PreTrainedConfig:
        """Returns the config of the language model."""
        return self if self.text_config is None else self.text_config


class Defaults(VerifyAndUpdateConfig):
    """Settings of vLLM that differ for a bridge, where the user has not set them."""

    @staticmethod
    def verify_and_update_model_config(model_config: ModelConfig) -> None:
        """Takes tokenizer and generation config of the language model, and our renderer."""
        source = backbone_source(model_config.hf_config, "language_model")
        if model_config.tokenizer == model_config.model:
            model_config.tokenizer = source.path
            model_config.tokenizer_revision = source.revision
        if model_config.tokenizer_mode == "auto":
            model_config.tokenizer_mode = MODE
        if model_config.generation_config == "auto":
            model_config.generation_config = source.path

    @staticmethod
    def verify_and_update_config(vllm_config: VllmConfig) -> None:
        """Gives the workers our calls, and on a CPU reads each prompt in one pass.

        After a part of a prompt vLLM 0.32 rewinds the generator of a request with a seed. There is
        none on a CPU, and the engine dies.
        """
        parallel, scheduler = vllm_config.parallel_config, vllm_config.scheduler_config
        if not parallel.worker_extension_cls:
            parallel.worker_extension_cls = WORKER
        if current_platform.is_cpu() and scheduler.enable_chunked_prefill:
            longest = max(scheduler.max_num_batched_tokens, vllm_config.model_config.max_model_len)
            scheduler.enable_chunked_prefill = False
            scheduler.max_num_batched_tokens = longest
            scheduler.max_num_encoder_input_tokens = longest
            scheduler.encoder_cache_size = longest
